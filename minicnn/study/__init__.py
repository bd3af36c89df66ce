"""The reproduction of the paper, under its own protocol and under an honest one. What `minicnn reproduce` does.

    trainings      the trainings of a study: each is a run folder, so a study can be interrupted and continued
    aggregate      summaries over several seeds
    results        everything in the report, as plain values: results.json
    plots          what is drawn: `forest_plots` and `result_plots`
    page           the report as HTML and Markdown, from `chapters` and `checklists`
    reproduction   all of it, in order
    paper          the values in the paper; `table_check` tests whether a printed table of metrics can be true
"""
