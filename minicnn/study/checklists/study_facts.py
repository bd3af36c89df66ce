"""What the results say of a study, its data and its networks, in sentences with their numbers, for the checklists.

A fact is a function from the results to a text, or to None where the results do not have what it would quote; beside it
stands what is said then. Names from strangers come out printable.
"""

from collections import Counter

from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import printable
from minicnn.evaluation.auditing.auditor import WHAT
from minicnn.reporting.tables import join, number, percent
from minicnn.reporting.wording import figure
from minicnn.study.checklists.wording import LEARNT_AND_HELD, NOT_MEASURED, parts_of, seeds_of, sentence, size, what_of
from minicnn.study.reading_results import PROTOCOLS, claimed, counts_of, layers_of, of

__all__ = ["FACTS"]


# ---- The study and its data ------------------------------------------------------------------------------------------

def _design(results):
    data = results["data"]
    if not data.get("images"):
        return None
    if data.get("synthetic"):
        return f"Neither: the {number(data['images'])} radiographs are synthetic, made by the program."
    return (f"Retrospective: the {number(data['images'])} images of {number(data['patients'])} patients were there "
            "before any network was trained.")


def _goal(results):
    claim, parts = claimed(results), parts_of(results, "honest", ("test", "external"))
    if claim is None or not parts:
        return None
    unseen = join(size(told) for told in parts.values())
    return (f"To develop the network of a published study again and to evaluate it: does its accuracy of "
            f"{percent(claim, 2)} come out under its own protocol, and on {unseen} that the network has not seen?")


def _sources(results):
    sources = results["data"].get("sources")
    return sources and sentence(f"from {printable(source)}: {counts_of(counts)}" for source, counts in sources.items())


def _classes(results):
    data = results["data"]
    return data.get("counts") and (f"The label is the manifest's word: {counts_of(data['counts'])}; positive is "
                                   f"{printable(data['classes'][-1])}. Who gave it is not known to the program.")


def _flow(results):
    data, external = results["data"], results["external"]
    if not data.get("counts"):
        return None
    said = [f"the collection: {number(data['images'])} images of {number(data['patients'])} patients, "
            f"{counts_of(data['counts'])}"]
    said += [f"{name} part: {size(told)}" for name, told in parts_of(results, "honest", LEARNT_AND_HELD).items()]
    if external:
        said.append(f"external set: {number(external['images'])} images of {number(external['patients'])} patients, "
                    f"{counts_of(external['counts'])}")
    return sentence(said)


def _balance(results):
    data, external = results["data"], results["external"]
    if not data.get("classes"):
        return None
    return sentence(f"{name}: {counts_of(one['counts'])} ({percent(_share(one, data['classes'][-1]))} positive)"
                    for name, one in (("the collection", data), ("the external set", external))
                    if one and one.get("counts"))


def _share(one, positive):
    total = sum(one["counts"].values())
    return one["counts"].get(positive, 0) / total if total else None


def _left_out(results):
    parts, data = parts_of(results, "honest", LEARNT_AND_HELD), results["data"]
    if not parts or not data.get("images"):
        return None
    used = number(sum(told["n"] for told in parts.values()))
    held = [f"{number(fold['left_out'])} with {printable(fold['name'])}" for fold in results["unseen"]]
    return sentence([f"the parts of the honest protocol hold {used} of the {number(data['images'])} images"]
                    + ([f"neither trained on nor tested with a source held out: {', '.join(held)}"] if held else []))


def _missing(results):
    audit = results["audit"]
    if "readable" not in audit:
        return None
    return (f"{number(audit['images'] - audit['readable'])} of {number(audit['images'])} files could not be read; "
            f"patients known by name: {number(audit['patients'])}. Nothing was imputed: an image of nobody known is "
            "taken for a patient of its own.")


def _quality(results):
    audit = results["audit"]
    if "problems" not in audit:
        return None
    kinds = Counter(finding["what"] for finding in audit["problems"])
    said = join(f"{number(n)} of {WHAT.get(kind, printable(kind))}" for kind, n in kinds.items()) or "none"
    return (f"The audit of {number(audit['images'])} files: problems: {said}; remarks: "
            f"{number(len(audit['remarks']))}; pictures unlike the rest: {number(len(audit['unusual']))}. It was not "
            "divided by demographic group.")


def _preprocessing(results):
    how, n = Preprocessing(), results["data"].get("images")
    said = [f"each of the {number(n)} images is decoded to grey, stretched to {how.height} x {how.width}, rounded to "
            f"8 bits, repeated to {how.channels} channels and divided by 255, in training and prediction alike"]
    if "robust" in results["protocols"]:
        said.append(f"recipe robust may add to it ({what_of(results, 'robust')})")
    return n and sentence(said)


def _pixels(results):
    how, layers = Preprocessing(), layers_of(results)
    made = layers and " x ".join(map(str, layers[0]["output"] or []))
    return layers and (f"The predictors are the {how.height * how.width * how.channels:,} numbers of a picture's "
                       f"pixels, of which the first layer makes {made}; none was selected, and nobody interprets them.")


def _demography(results):
    return sentence(f"{part} part, {column}: " + ", ".join(f"{printable(word)} {number(group['n'])} images"
                                                           for word, group in words.items())
                    for part, told in parts_of(results, "honest").items()
                    for column, words in (told.get("groups") or {}).items() if column in ("sex", "age"))


def _events(results):
    return sentence(f"{PROTOCOLS[protocol]}, {name}: {counts_of(told['counts'])}" for protocol in ("paper", "honest")
                    for name, told in parts_of(results, protocol).items() if told.get("counts"))


def _differs(results):
    data, external = results["data"], results["external"]
    if not external or not _balance(results):
        return None
    remark = f" {printable(external['remark'])}" if external.get("remark") else ""
    return f"{_balance(results)} Sources: {len(data.get('sources') or {})} known at home.{remark}"


# ---- The network and its training ------------------------------------------------------------------------------------

def _partitions(results):
    return sentence(f"{PROTOCOLS[name]} ({what_of(results, name)}): "
                    + ", ".join(f"{part} {size(told)}" for part, told in parts.items())
                    for name in ("paper", "honest") if (parts := parts_of(results, name, LEARNT_AND_HELD)))


def _disjoint(results):
    parts = parts_of(results, "honest", LEARNT_AND_HELD)
    if not parts or "paper" not in results["protocols"]:
        return None
    sizes = join(f"{name} {size(told)}" for name, told in parts.items())
    return (f"Honest protocol: patients, joined where they share a picture ({sizes}). The paper's protocol: versions "
            "of images, so one radiograph may be on both sides.")


def _sample_size(results):
    told = of(results, "honest", "test")
    return told and f"The honest test part has {size(told)}, and with them: accuracy {figure(told, 'accuracy')}."


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
    return seeds and f"At random (Glorot uniform, biases 0), {seeds}; no weights were taken from elsewhere."


def _training(results):
    settings = results["settings"]
    if not {"epochs", "steps_per_epoch", "batch_size", "learning_rate"} <= settings.keys():
        return None
    return sentence([f"binary cross-entropy, Adam with a learning rate of {settings['learning_rate']:g}, "
                     f"{settings['epochs']} epochs of {number(settings['steps_per_epoch'])} steps of "
                     f"{settings['batch_size']} images, {seeds_of(results) or 'seeds unknown'}"]
                    + [f"{PROTOCOLS.get(name, name)}: {what_of(results, name)}" for name in results["protocols"]])


def _selection(results):
    epochs = results["settings"].get("epochs")
    return epochs and (f"Paper's protocol: the weights after epoch {epochs}, the last. Honest protocol: those of the "
                       f"epoch, of {epochs}, with the lowest loss on the validation part.")


def _ensemble(results):
    seeds = seeds_of(results)
    return seeds and (f"None: the networks of {seeds} are judged one by one; no answer is made of several networks'.")


def _development(results):
    partitions, training = _partitions(results), _training(results)
    return partitions and training and f"{training} {partitions}"


def _model(results):
    layers = _architecture(results)
    return layers and f"{layers} The weights are in the run folders, as safetensors files."


# Each fact, and what is said where the results do not have it.
FACTS = {
    "design": (_design, "The results do not say what data there were."),
    "goal": (_goal, "There is no figure on images unseen to compare with the paper's."),
    "sources": (_sources, "The manifest has no column source."),
    "classes": (_classes, "The results do not hold the classes."),
    "flow": (_flow, "The results do not hold the numbers of images."),
    "balance": (_balance, "The results do not hold the classes."),
    "left_out": (_left_out, "The results do not hold the numbers of images."),
    "missing": (_missing, "The collection was not audited."),
    "quality": (_quality, "The collection was not audited."),
    "preprocessing": (_preprocessing, "The results do not hold the numbers of images."),
    "pixels": (_pixels, "The results do not hold the network."),
    "demography": (_demography, "The manifest has no columns sex or age."),
    "events": (_events, "The results do not hold the classes of each part: see split.csv of the run folders."),
    "differs": (_differs, "There were no images of another place to compare: give them with --external."),
    "partitions": (_partitions, NOT_MEASURED),
    "disjoint": (_disjoint, NOT_MEASURED),
    "size": (_sample_size, NOT_MEASURED),
    "architecture": (_architecture, "The results do not hold the network."),
    "software": (_software, "The results do not hold the versions."),
    "initial": (_initial, "The results do not hold the seeds."),
    "training": (_training, "The results do not hold the settings."),
    "selection": (_selection, "The results do not hold the settings."),
    "ensemble": (_ensemble, "The results do not hold the seeds."),
    "development": (_development, "The results do not hold settings and parts."),
    "model": (_model, "The results do not hold the network."),
}
