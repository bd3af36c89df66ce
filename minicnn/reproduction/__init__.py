"""The paper's protocol and an honest one, side by side: what `minicnn reproduce` does.

    study       which trainings there are, and carrying them out: each is a run folder, so a study can be gone on with
    answers     what a trained network says of a set of images, with whom they show
    seeds       figures over several seeds, with intervals that know patients
    findings    everything that the report says, as plain values: results.json
    pictures    what is drawn
    command     `minicnn reproduce`

`report.reproduction` makes the page of it.
"""
