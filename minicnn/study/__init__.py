"""The reproduction of the paper: its protocol and an honest one, side by side. What `minicnn reproduce` does.

    reproduction   which trainings there are, and carrying them out: each is a run folder, so a study can be gone on with
    aggregate      metrics over several seeds
    results        everything that the report says, as plain values: results.json
    plots          what is drawn
    run_study      all of it, one after another
    page           the report and its Markdown twin, from `chapters`
    paper          what the paper prints; `table_check` asks of any printed table whether it can be true
"""
