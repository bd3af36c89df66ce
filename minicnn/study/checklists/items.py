"""The items of the checklists: numbers as published, topics in our own few words, and what becomes of each.

An item that the results can answer names a fact (study_facts.py, outcome_facts.py). One that only the authors
can answer says what to write, and names a fact where part of it is known; one that is not done says why.
"""

from typing import NamedTuple

__all__ = ["Item", "Guideline", "GUIDELINES"]


class Item(NamedTuple):
    """One item. `words` is what to write, or why it is not done; `of_people`: it has no meaning without patients."""

    number: str
    topic: str
    status: str
    words: str
    fact: str = ""
    of_people: bool = False


class Guideline(NamedTuple):
    """A checklist: its name, where it was published, and its items in order."""

    name: str
    citation: str
    items: tuple


def _told(number, topic, fact):
    return Item(number, topic, "filled", "", fact)


def _ask(number, topic, words, fact=""):
    return Item(number, topic, "needs you", words, fact)


def _people(number, topic, words, fact=""):
    return Item(number, topic, "needs you", words, fact, of_people=True)


def _undone(number, topic, words, fact=""):
    return Item(number, topic, "not done", words, fact)


_SAMPLE = "No sample size was worked out beforehand: all the images there were are used."
_UPDATE = "No network was trained further or recalibrated for the test part or the external set."
_CHECKED = ("Numbers and topics were checked against public copies of the published table, not against the journal's "
            "own page; the topics are in our words, so answer the published wording.")

_CLAIM = (
    _ask("1", "title names AI and its kind", "Say deep learning, or convolutional neural network, in the title."),
    _ask("2", "structured summary", "Summarise design, methods, results with intervals, and conclusions.", "headline"),
    _ask("3", "background, intended use, role", "Say what the network is for, who uses it, and what is done now."),
    _ask("4", "aims and hypotheses", "State your hypotheses.", "goal"),
    _told("5", "prospective or retrospective", "design"),
    _told("6", "goal of the study", "goal"),
    _ask("7", "sources of data", "Cite each collection with its version and licence.", "sources"),
    _people("8", "inclusion and exclusion", "Say by which criteria patients and images were taken.", "flow"),
    _told("9", "preprocessing", "preprocessing"),
    _told("10", "selection of subsets", "left_out"),
    _people("11", "de-identification", "Say how names and dates were removed from headers and pixels."),
    _told("12", "missing data", "missing"),
    _people("13", "image acquisition", "Give devices, projections and exposure as far as the collections tell."),
    _people("14", "definition of the reference standard", "Say which test or report made an image positive.",
            "classes"),
    _people("15", "why this reference standard", "Say why this one, and what it misses."),
    _people("16", "who made the reference labels", "Say who labelled, with which qualification."),
    _people("17", "labelling of the test set", "Say whether the test images were labelled apart, and by what tool."),
    _people("18", "variability of the annotators", "Give the agreement of readers, or say that there was one."),
    _told("19", "assignment to partitions", "partitions"),
    _told("20", "level at which partitions are disjoint", "disjoint"),
    _undone("21", "intended sample size", _SAMPLE, "size"),
    _told("22", "the model in detail", "architecture"),
    _told("23", "software and versions", "software"),
    _told("24", "initial parameters", "initial"),
    _told("25", "training", "training"),
    _told("26", "how the final model was chosen", "selection"),
    _told("27", "ensembles", "ensemble"),
    _told("28", "metrics of performance", "metrics"),
    _told("29", "uncertainty and significance", "uncertainty"),
    _told("30", "robustness and sensitivity", "robustness"),
    _told("31", "explainability, and its test", "explainability"),
    _told("32", "evaluation on internal data", "internal"),
    _told("33", "test on external data", "external"),
    _ask("34", "registration as a clinical trial", "Give the register and number, or say that this is no trial."),
    _ask("35", "numbers included and excluded", "Say how many were left out of the manifest, and why.", "flow"),
    _told("36", "demography and clinical traits by partition", "demography"),
    _told("37", "performance with uncertainty, by partition", "performance"),
    _told("38", "diagnostic accuracy and its precision", "accuracy"),
    _told("39", "analysis of failures", "failures"),
    _ask("40", "limitations", "Add those of your data that the program cannot see.", "limits"),
    _ask("41", "implications for practice", "Say what follows and what does not: it is no medical device.", "headline"),
    _ask("42", "full protocol and technical details", "Say where the study's protocol is.", "repeat"),
    _ask("43", "availability of software, model and data", "Say where data and weights are, and under which licence.",
         "repeat"),
    _ask("44", "funding and the funders' role", "Name the sources of money and support, or say that there were none."),
)

_TRIPOD = (
    _ask("1", "title: model, population, outcome", "Name the prediction model, the patients and the outcome.", "goal"),
    _ask("2", "abstract", "Follow the list TRIPOD+AI for Abstracts.", "headline"),
    _ask("3a", "healthcare context and rationale", "Say why a model is wanted here, and which there are."),
    _ask("3b", "target population, purpose, users", "Say for whom, where in the path of care, and used by whom."),
    _people("3c", "known health inequalities", "Name inequalities among the people concerned."),
    _told("4", "objectives: development or evaluation", "goal"),
    _ask("5a", "sources of data, representativeness", "Say why these data, and whom they represent.", "sources"),
    _people("5b", "dates of data", "Give the dates of the first and the last image."),
    _people("6a", "setting and centres", "Give the hospitals, with number, place and kind."),
    _people("6b", "eligibility", "Give the criteria by which patients were taken."),
    _people("6c", "treatments", "Say what treatment there was before the image, if any."),
    _told("7", "preparation and quality of data", "quality"),
    _people("8a", "definition of the outcome", "Say how and when it was established, and why this one.", "classes"),
    _people("8b", "who judged the outcome", "Give qualification and demography of those who judged."),
    _people("8c", "blinding of the outcome", "Say whether those who judged knew the image."),
    _told("9a", "choice of predictors", "pixels"),
    _people("9b", "definition of predictors", "Say how and when the images were taken.", "preprocessing"),
    _told("9c", "who judged predictors", "pixels"),
    _undone("10", "sample size", _SAMPLE, "size"),
    _told("11", "missing data", "missing"),
    _told("12a", "use of the data, partitions", "partitions"),
    _told("12b", "handling of predictors", "preprocessing"),
    _told("12c", "type of model, building, internal validation", "training"),
    _told("12d", "heterogeneity across clusters, method", "clusters"),
    _told("12e", "measures and plots of performance", "metrics"),
    _undone("12f", "updating of the model, method", _UPDATE, "threshold"),
    _told("12g", "how predictions were calculated", "output"),
    _undone("13", "class imbalance", "No class was weighted or drawn more often.", "balance"),
    _undone("14", "approaches to fairness", "Training did nothing to make errors alike among groups.", "groups"),
    _told("15", "output and threshold", "output"),
    _told("16", "differences of training and evaluation data", "differs"),
    _people("17", "ethical approval and consent", "Name the committee, the number, and how consent was given."),
    _ask("18a", "funding", "Name the sources of money and the funders' role."),
    _ask("18b", "conflicts of interest", "Declare those of all authors."),
    _ask("18c", "protocol", "Say where the protocol is, or that there was none."),
    _ask("18d", "registration", "Give the register and the number, or say that there was none."),
    _ask("18e", "sharing of data", "Say where the images and the manifest are, and on which terms.", "sources"),
    _told("18f", "sharing of code", "repeat"),
    _people("19", "involvement of patients and the public", "Say who was involved and how, or that nobody was."),
    _told("20a", "flow of participants", "flow"),
    _told("20b", "characteristics of participants", "demography"),
    _told("20c", "evaluation data beside development data", "differs"),
    _told("21", "numbers and events in each analysis", "events"),
    _told("22", "the full model", "model"),
    _told("23a", "performance with intervals, by subgroup", "subgroups"),
    _told("23b", "heterogeneity of performance", "unseen"),
    _undone("24", "results of updating", _UPDATE),
    _ask("25", "interpretation, with fairness", "Say what the results mean beside other studies.", "headline"),
    _ask("26", "limitations", "Add those of your data that the program cannot see.", "limits"),
    _ask("27a", "poor or missing input in use", "Say what users are to do with a picture of poor quality.", "quality"),
    _ask("27b", "interaction and expertise of users", "Say what users must do and know."),
    _ask("27c", "next steps", "Say which study should come next.", "limits"),
)

_STARD = (
    _ask("1", "title or abstract: AI, a measure of accuracy", "Name the AI and at least one measure.", "headline"),
    _ask("2", "structured abstract", "Summarise design, methods, results and conclusions.", "headline"),
    _ask("3", "background, intended use, workflow", "Say what the test is for, and where in the workflow."),
    _ask("4", "objectives and hypotheses", "State your hypotheses.", "goal"),
    _told("5", "prospective or retrospective", "design"),
    _people("6", "ethics approval", "Name the committee and the number, or say why none was needed."),
    _people("7", "eligibility of participants and of data", "Give the criteria in the order applied.", "quality"),
    _people("8", "how participants were identified", "Say by symptoms, test results, or from a register."),
    _people("9", "setting, places and dates", "Say where and when."),
    _people("10", "consecutive, random or convenience", "Say which; public collections are of convenience as a rule."),
    _ask("11", "source and kind of data", "Say for which purpose each collection was made.", "sources"),
    _people("12", "annotation", "Say who annotated, with what experience, and when."),
    _people("13", "devices and software", "Name the devices that took the images.", "software"),
    _people("14", "acquisition and preprocessing", "Say how the images were taken.", "preprocessing"),
    _told("15a", "the index test", "architecture"),
    _told("15b", "its development, with sample sizes", "development"),
    _told("15c", "its cut-off, and when it was fixed", "threshold"),
    _ask("15d", "who uses it, with which expertise", "Name the users and what they must know."),
    _people("16a", "the reference standard", "Say which test or report made an image positive.", "classes"),
    _people("16b", "why this reference standard", "Say why this one, and what it misses."),
    _people("16c", "its cut-off", "Give the limit above which it counts as positive."),
    _told("17a", "what the index test was told", "blind"),
    _people("17b", "what the reference standard was told", "Say whether those who judged knew the index test."),
    _told("18", "methods of estimating accuracy", "uncertainty"),
    _told("19", "indeterminate results", "indeterminate"),
    _told("20", "missing data", "missing"),
    _told("21", "analyses of variability", "variability"),
    _undone("22", "intended sample size", _SAMPLE, "size"),
    _told("23", "analysis of errors, bias and fairness", "errors"),
    _ask("24", "flow of participants, as a diagram", "Draw it from before the manifest was made.", "flow"),
    _told("25", "baseline traits of training, validation, test", "demography"),
    _people("26a", "severity of disease", "Give the distribution among those with the condition.", "classes"),
    _people("26b", "alternative diagnoses", "Give those of the people without the condition.", "classes"),
    _people("27", "time between the tests", "Give the time between them, and what was done meanwhile."),
    _ask("28", "do the data look like the intended use", "Compare the share of positives with that in use.", "balance"),
    _told("29", "how the external data differ", "differs"),
    _told("30", "answers by reference standard, as a table", "confusion"),
    _told("31", "accuracy and its precision", "accuracy"),
    _undone("32", "adverse events", "Nothing was done to anybody: networks answered stored pictures."),
    _ask("33", "limitations", "Add those of your data that the program cannot see.", "limits"),
    _ask("34", "implications for practice", "Say what follows and what does not: it is no medical device.", "headline"),
    _ask("35", "ethics and fairness in use", "Say whom errors would harm.", "groups"),
    _ask("36", "registration", "Give the register and the number, or say that there was none."),
    _ask("37", "protocol", "Say where the protocol is, or that there was none."),
    _ask("38", "funding", "Name the sources of money and the funders' role."),
    _ask("39", "commercial interests", "Declare them, or say that there are none."),
    _ask("40a", "availability of data and code", "Say where data are, and on which terms.", "repeat"),
    _told("40b", "are outputs stored and open to audit", "stored"),
)

GUIDELINES = (
    Guideline("CLAIM 2024", "Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 "
              f"Update, Radiology: Artificial Intelligence 6(4), 2024, e240300: 44 items. {_CHECKED}", _CLAIM),
    Guideline("TRIPOD+AI", "Collins et al., TRIPOD+AI statement, BMJ 385, 2024, e078378: 27 items, 52 with their "
              f"letters. {_CHECKED}", _TRIPOD),
    Guideline("STARD-AI", "Sounderajah et al., The STARD-AI reporting guideline for diagnostic accuracy studies using "
              "artificial intelligence, Nature Medicine 31, 2025, 3283-3289: 40 items, 48 with their letters. "
              f"{_CHECKED}", _STARD),
)
