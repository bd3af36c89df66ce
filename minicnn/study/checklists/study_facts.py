"""Facts for the checklists on a study, its data and its networks, in sentences with their numbers.

A fact is a function from the results to a text, or to None where the results do not have what it needs; the table at
the end holds the text for that case. Untrusted names are made printable.
"""

from collections import Counter

from minicnn.core.text import join, number, percent
from minicnn.evaluation.summary import images_and_patients
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import WHAT
from minicnn.reporting.wording import value_text
from minicnn.study.checklists.wording import NOT_MEASURED, SPLIT, protocol_text, seeds_of, sentence, sets_of, size
from minicnn.study.results import PROTOCOL_NAMES, counts_text, layers_of, reported, summary_of

__all__ = ["FACTS"]


# ---- The study and its data ------------------------------------------------------------------------------------------

def _design(results):
    data = results["data"]
    if not data.get("images"):
        return None
    if data.get("synthetic"):
        return f"Neither: the {number(data['images'])} radiographs are synthetic."
    return (f"Retrospective: the {images_and_patients(data)} existed before "
            "any network was trained.")


def _goal(results):
    accuracy, sets = reported(results).get("accuracy"), sets_of(results, "honest", ("test", "external"))
    if accuracy is None or not sets:
        return None
    return (f"To reproduce a published network and to evaluate it: is its accuracy of {percent(accuracy, 2)} reached "
            f"under its own protocol, and on {join(map(size, sets.values()))} not used for training?")


def _sources(results):
    sources = results["data"].get("sources")
    return sources and sentence(f"from {printable(source)}: {counts_text(counts)}"
                                for source, counts in sources.items())


def _classes(results):
    data = results["data"]
    return data.get("counts") and (f"The labels are those of the manifest: {counts_text(data['counts'])}; the positive "
                                   f"class is {printable(data['classes'][-1])}. Who assigned them is unknown.")


def _flow(results):
    data, external = results["data"], results["external"]
    if not data.get("counts"):
        return None
    said = [f"the collection: {images_and_patients(data)}; "
            f"{counts_text(data['counts'])}"]
    said += [f"{name} set: {size(summary)}" for name, summary in sets_of(results, "honest", SPLIT).items()]
    if external:
        said.append(f"external set: {images_and_patients(external)}; "
                    f"{counts_text(external['counts'])}")
    return sentence(said)


def _balance(results):
    data, external = results["data"], results["external"]
    if not data.get("classes"):
        return None
    return sentence(f"{name}: {counts_text(one['counts'])} ({percent(_share(one, data['classes'][-1]))} positive)"
                    for name, one in (("the collection", data), ("the external set", external))
                    if one and one.get("counts"))


def _share(one, positive):
    total = sum(one["counts"].values())
    return one["counts"].get(positive, 0) / total if total else None


def _left_out(results):
    sets, data = sets_of(results, "honest", SPLIT), results["data"]
    if not sets or not data.get("images"):
        return None
    used = number(sum(summary["n"] for summary in sets.values()))
    held = [f"{number(fold['left_out'])} with {printable(fold['name'])}" for fold in results["unseen"]]
    return sentence([f"the honest protocol uses {used} of the {number(data['images'])} images"]
                    + ([f"neither in training nor in test with a source held out: {', '.join(held)}"] if held else []))


def _missing(results):
    audit = results["audit"]
    if "readable" not in audit:
        return None
    return (f"{number(audit['images'] - audit['readable'])} of {number(audit['images'])} files could not be read; "
            f"known patients: {number(audit['patients'])}. Nothing was imputed: an image without a patient counts as a "
            "patient of its own.")


def _quality(results):
    audit = results["audit"]
    if "problems" not in audit:
        return None
    kinds = Counter(finding["what"] for finding in audit["problems"])
    said = join(f"{WHAT.get(kind, printable(kind))} ({number(n)})" for kind, n in kinds.items()) or "none"
    return (f"Audit of {number(audit['images'])} files: problems: {said}; remarks: {number(len(audit['remarks']))}; "
            f"unusual images: {number(len(audit['unusual']))}. It was not done by demographic group.")


def _preprocessing(results):
    how, n = Preprocessing(), results["data"].get("images")
    said = [f"each of the {number(n)} images is converted to greyscale, resized to {how.height} x {how.width}, rounded "
            f"to 8 bits, repeated to {how.channels} channels and divided by 255, in training and in prediction"]
    if "robust" in results["protocols"]:
        said.append(f"the robust recipe may add steps ({protocol_text(results, 'robust')})")
    return n and sentence(said)


def _pixels(results):
    how, layers = Preprocessing(), layers_of(results)
    output = layers and " x ".join(map(str, layers[0]["output"] or []))
    return layers and (f"The predictors are the {how.height * how.width * how.channels:,} pixel values of an image, "
                       f"from which the first layer computes {output} values; none was selected or interpreted.")


def _demography(results):
    return sentence(f"{name} set, {column}: " + ", ".join(f"{printable(word)} {number(group['n'])} images"
                                                          for word, group in words.items())
                    for name, summary in sets_of(results, "honest").items()
                    for column, words in (summary.get("groups") or {}).items() if column in ("sex", "age"))


def _events(results):
    return sentence(f"{PROTOCOL_NAMES[protocol]}, {name}: {counts_text(summary['counts'])}"
                    for protocol in ("paper", "honest") for name, summary in sets_of(results, protocol).items()
                    if summary.get("counts"))


def _differs(results):
    data, external = results["data"], results["external"]
    if not external or not _balance(results):
        return None
    remark = f" {printable(external['remark'])}" if external.get("remark") else ""
    return f"{_balance(results)} Known sources of the collection: {len(data.get('sources') or {})}.{remark}"


# ---- The network and its training ------------------------------------------------------------------------------------

def _partitions(results):
    return sentence(f"{PROTOCOL_NAMES[protocol]} ({protocol_text(results, protocol)}): "
                    + ", ".join(f"{name} {size(summary)}" for name, summary in sets.items())
                    for protocol in ("paper", "honest") if (sets := sets_of(results, protocol, SPLIT)))


def _disjoint(results):
    sets = sets_of(results, "honest", SPLIT)
    if not sets or "paper" not in results["protocols"]:
        return None
    sizes = join(f"{name} {size(summary)}" for name, summary in sets.items())
    return (f"Honest protocol: patients, merged where they share an image ({sizes}). The paper's protocol: versions of "
            "images, so one radiograph may be in both sets.")


def _sample_size(results):
    summary = summary_of(results, "honest", "test")
    return summary and f"The honest test set has {size(summary)}; its accuracy is {value_text(summary, 'accuracy')}."


def _architecture(results):
    layers = layers_of(results)
    total = number(sum(layer["parameters"] for layer in layers))
    shapes = "; ".join(f"{printable(layer['name'])} {' x '.join(map(str, layer['output'] or []))} "
                       f"({number(layer['parameters'])})" for layer in layers)
    return layers and f"{len(layers)} layers with {total} parameters: {shapes}."


def _software(results):
    versions = results["environment"]
    return versions and "Versions: " + ", ".join(f"{printable(name)} {printable(value)}" for name, value in
                                                 versions.items()) + "."


def _initial(results):
    seeds = seeds_of(results)
    return seeds and f"Random (Glorot uniform, biases 0), {seeds}; no pretrained weights."


def _training(results):
    settings = results["settings"]
    if not {"epochs", "steps_per_epoch", "batch_size", "learning_rate"} <= settings.keys():
        return None
    return sentence([f"binary cross-entropy, Adam with a learning rate of {settings['learning_rate']:g}, "
                     f"{settings['epochs']} epochs of {number(settings['steps_per_epoch'])} steps of "
                     f"{settings['batch_size']} images, {seeds_of(results) or 'seeds unknown'}"]
                    + [f"{PROTOCOL_NAMES.get(name, name)}: {protocol_text(results, name)}"
                       for name in results["protocols"]])


def _selection(results):
    epochs = results["settings"].get("epochs")
    return epochs and (f"Paper's protocol: the weights after the last epoch, {epochs}. Honest protocol: those of the "
                       f"epoch, of {epochs}, with the lowest validation loss.")


def _ensemble(results):
    seeds = seeds_of(results)
    return seeds and f"None: the networks of {seeds} are evaluated one by one; their predictions are not combined."


def _development(results):
    partitions, training = _partitions(results), _training(results)
    return partitions and training and f"{training} {partitions}"


def _model(results):
    layers = _architecture(results)
    return layers and f"{layers} The weights are in the run folders, as safetensors files."


# Each fact, and what is said where the results do not have it.
FACTS = {
    "design": (_design, "The results do not describe the data."),
    "goal": (_goal, "There is no test set to compare with the paper's values."),
    "sources": (_sources, "The manifest has no column source."),
    "classes": (_classes, "The classes are not in the results."),
    "flow": (_flow, "The numbers of images are not in the results."),
    "balance": (_balance, "The classes are not in the results."),
    "left_out": (_left_out, "The numbers of images are not in the results."),
    "missing": (_missing, "The collection was not audited."),
    "quality": (_quality, "The collection was not audited."),
    "preprocessing": (_preprocessing, "The numbers of images are not in the results."),
    "pixels": (_pixels, "The network is not in the results."),
    "demography": (_demography, "The manifest has no columns sex or age."),
    "events": (_events, "The classes of each set are not in the results; see split.csv in the run folders."),
    "differs": (_differs, "There was no external validation: give images with --external."),
    "partitions": (_partitions, NOT_MEASURED),
    "disjoint": (_disjoint, NOT_MEASURED),
    "size": (_sample_size, NOT_MEASURED),
    "architecture": (_architecture, "The network is not in the results."),
    "software": (_software, "The versions are not in the results."),
    "initial": (_initial, "The seeds are not in the results."),
    "training": (_training, "The options are not in the results."),
    "selection": (_selection, "The options are not in the results."),
    "ensemble": (_ensemble, "The seeds are not in the results."),
    "development": (_development, "The options and sets are not in the results."),
    "model": (_model, "The network is not in the results."),
}
