"""Words of labels: a finding is read as whole words, with what denies or doubts it."""

import pytest

from minicnn.core.text import spelling
from minicnn.data.labels import class_order, finding, known
from minicnn.errors import ManifestError

SAID = {
    "covid": ["covid", "COVID_19", "Covid19", "COVID+", "covid-positive", "Pneumonia/Viral/COVID-19", "COVID-19, ARDS",
              "covid without pneumonia", "COVID-19, not pneumonia", "SARS-CoV-2", "2019-nCoV", "1_covid", "positive", "COVID19pos"],
    "negative": ["Non-COVID", "NonCovid", "NONCOVID19", "no_covid", "not covid-19", "covid-negative", "COVID neg", "COVID-",
                 "COVID (-)", "covid -ve", "covid_0", "COVID: false", "without COVID-19", "w/o covid", "negative",
                 "negative for COVID", "COVID-free", "COVID: no", "covid not detected", "COVID excluded", "covid_none", "covid denied", "covid ruled out", "COVID\u2212", "non\u2011covid", "no covid pneumonia"],
    "normal": ["Normal", "NORMAL cases", "No Finding", "no_findings", "healthy", "0_normal", "normal (no COVID)",
               "no significant finding", "non-covid normal"],
    "pneumonia": ["Viral Pneumonia", "viralpneumonia", "Pneumonia/Viral/SARS", "Pneumonia/Viral/MERS-CoV",
                  "non-COVID pneumonia", "pneumonia, COVID negative", "bronchopneumonia"],
    "": ["", "todo", "Lung_Opacity", "abnormal", "not normal", "no pneumonia", "suspected covid", "COVID or normal",
         "covid_vs_normal", "post-COVID", "pre covid era", "COVID/Negative", "uncovid", "covidology", "COVID, no COVID", "COVID-19, no", "no",
         "unknown"],
}


@pytest.mark.parametrize("text, said", [(text, said) for said, texts in SAID.items() for text in texts])
def test_a_finding_is_read_as_words(text, said):
    assert finding(text) == said
    assert finding(text.upper()) == finding(text.lower()) == said


def test_two_classes_that_both_say_covid_or_neither_are_asked_for():
    for labels in ({"covid", "COVID-19 severe"}, {"Non-COVID", "normal"}, {"NonCOVID", "well"}):
        with pytest.raises(ManifestError, match="which of .* is the positive class"):
            class_order(labels)


def test_spellings():
    for words in (["COVID-19", "covid 19", "Covid_19", "COVID\u201119", " covid19 "], ["No Finding", "no-finding", "NOFINDING"],
                  ["Caf\u00e9", "cafe\u0301", "CAFE\u0301"], ["Stra\u00dfe", "STRASSE"], ["grade 1-2", "Grade_1 2"]):
        assert len(set(map(spelling, words))) == 1, words
    for one, other in [("1-2", "12"), ("COVID-", "COVID"), ("COVID+", "COVID-"), ("a.b", "ab"), ("non-covid", "covid")]:
        assert spelling(one) != spelling(other)


def test_known_words_stay():
    words = ["Nanette", "None-1", "unk7", "NA12", "0", "-1", "x"]
    assert known(words) == (words, {})
    assert known([7, None, float("nan")])[0] == ["7", "", ""]
