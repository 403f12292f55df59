"""Studies: many trainings, and what can be said when they are compared.

    study.py       what is to be trained: a grid of models, settings and seeds, in TOML
    presets/       studies that come with minimix
    running.py     the trainings, each by `minimix train` in a process and a run folder of its own
    lifeline.py    such a process ends when the one that started it is gone
    estimate.py    how long they will take
    measure.py     what a network costs here: images per second, memory
    costs.py       what the networks of a study cost, measured once and kept
    names.py       the networks that `minimix models` lists
    statistics.py  means, their uncertainty, differences
    results.py     the tables, as text, CSV and JSON
    charts.py      accuracies beside one another, and against their cost
    page.py        the page

The folder of a study holds

    runs/ROW/seed-0/      the run folder of one training
    runs/ROW/seed-0.log   what it printed
    costs.json            what the networks cost
    results.txt .csv .json, report.html, accuracy.svg
"""
