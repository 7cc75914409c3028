"""Closed loop of collecting and training: is collecting by PM better than collecting at random?

python -m benchmarks.closed_loop.run closed-loop
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.closed_loop.figure import experiment_figure
from premem_core.commands.options import JsonOption, print_json, say, write_text
from premem_core.errors import PrememError

FIGURE_CAPTION = (
    "Each round fine-tunes the base model on the first problems and on all problems collected so "
    "far. A strategy chooses some of the first problems, and variants of these are collected. Bars "
    "are 90 % intervals over random seeds, by Student's t."
)
TABLE_CAPTION = (
    "ratio: new problems that i.i.d. collection needs ÷ new problems that the strategy needs, for "
    "the highest test accuracy that both reach. above_iid: test accuracy minus that of i.i.d. "
    "collection at the same size, mean over rounds; half: half of its 90 % interval over random "
    "seeds."
)


def experiment(
    out: Annotated[
        Path, typer.Argument(help="A folder for all results; a second call continues in it.")
    ],
    seeds: Annotated[
        int, typer.Option(help="Repetitions, each with a random seed and first problems.")
    ] = 3,
    rounds: Annotated[int, typer.Option(help="Rounds of collecting and fine-tuning.")] = 3,
    first: Annotated[int, typer.Option(help="Problems in the first fine-tuning.")] = 400,
    new: Annotated[int, typer.Option(help="Problems that are collected in each round.")] = 150,
    test: Annotated[int, typer.Option(help="Test problems.")] = 500,
    as_json: JsonOption = False,
) -> None:
    """Collect by four strategies on the demo task, and compare test accuracies at equal sizes.

    Writes experiment.html, outcome.csv and the runs to OUT. It takes an hour and a half on two
    cores.

    Example: python -m benchmarks.closed_loop.run closed-loop
    """
    from benchmarks.closed_loop import loop
    from premem_core.curation import strategies
    from premem_core.dashboard import figures
    from premem_core.dashboard.figures import html_report

    outcome = loop.run(out, loop.Setting(seeds, rounds, first, new, test), say)
    summary, efficiency = loop.summary(outcome), loop.efficiency(outcome)
    labels = {name: strategies.get_strategy(name).label for name in loop.STRATEGIES}
    chart = experiment_figure(summary, labels, figures.LIGHT)
    labelled = [table.replace({"strategy": labels}) for table in (efficiency, summary)]
    parts = [
        f"<p>{FIGURE_CAPTION}</p>",
        html_report.chart(chart, first=True),
        "<h2>Comparison with i.i.d. collection</h2>",
        f"<p>{TABLE_CAPTION}</p>",
        html_report.table(labelled[0]),
        "<h2>Test accuracy by data size</h2>",
        html_report.table(labelled[1]),
    ]
    write_text(out / "experiment.html", html_report.document("Premem: the closed loop", parts))
    write_text(out / "outcome.csv", outcome.to_csv(index=False))
    if as_json:
        tables = {"outcome": outcome, "summary": summary, "efficiency": efficiency}
        print_json({name: table.to_dict("records") for name, table in tables.items()})
        return
    for table in labelled:
        typer.echo(table.to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    try:
        typer.run(experiment)
    except PrememError as error:
        say(f"error: {error}")
        sys.exit(1)
