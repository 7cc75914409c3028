"""grade, regrade, disagreements: by which rules an answer is right."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from premem_core.commands.options import JsonOption, StoreOption, existing_store, print_json, say
from premem_core.errors import PrememError


def grade(
    grader: Annotated[str, typer.Option(help="gsm8k, math or paper.")] = "gsm8k",
    as_json: JsonOption = False,
) -> None:
    """Grade completions: one JSON object per line in, one per line out.

    Example: echo '{"completion": "#### 18", "reference": "18"}' | python -m premem_core grade
    """
    from premem_core.grading import make_grader

    pairs = []
    for number, line in enumerate(sys.stdin, start=1):
        try:
            row = json.loads(line)
            pairs.append((str(row["completion"]), str(row["reference"])))
        except (ValueError, KeyError, TypeError) as error:
            raise PrememError(
                f"line {number} of the input is not an object with completion and reference "
                f"({error!r}); give one JSON object per line"
            ) from error
    with make_grader(grader) as g:
        for graded in g.grade([c for c, _ in pairs], [r for _, r in pairs]):
            row = {"grade": graded.grade.name, "extracted": graded.extracted}
            typer.echo(json.dumps(row) if as_json else f"{row['grade']}\t{row['extracted'] or ''}")


def regrade(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    grader: Annotated[
        str, typer.Option(help="gsm8k, math or paper; 'as scored' undoes it in an old store.")
    ],
    store: StoreOption = Path("store"),
    keep_scores: Annotated[
        bool, typer.Option(help="Only grade: the run's accuracies stay as they are.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Grade a scored run's completions by another grader, which its accuracies then follow.

    Nothing is sampled and no grade is lost: the same command with the former grader undoes it.

    Example: python -m premem_core regrade --store store --run lr2e-5 --grader math
    """
    from premem_core import regrading

    home = existing_store(store)
    if keep_scores:
        say(f"{regrading.grade(home, run, grader, _print_graded):,} completions graded")
        return
    done = regrading.regrade(home, run, grader, _print_graded)
    change = done.change
    if as_json:
        print_json(
            {
                "run": run,
                "grader": grader,
                "grader_before": change.one,
                "completions": change.completions,
                "newly_graded": done.newly_graded,
                "changed": change.disagreements,
                "accuracy": change.accuracies.rename(
                    columns={"one": "before", "other": "after"}
                ).to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{done.newly_graded:,} completions graded by {grader}; {change.disagreements:,} of "
        f"{change.completions:,} grades differ from those of {change.one}"
    )
    for row in change.accuracies.to_dict("records"):
        name = f"{row['split']} {row['perturbation']}".strip()
        typer.echo(f"{name}: {row['one']:.2%} correct before, {row['other']:.2%} after")


def disagreements(
    run: Annotated[str, typer.Option(help="The run, as it is named in the store.")],
    grader: Annotated[str, typer.Option(help="One grader: gsm8k, math or paper.")],
    against: Annotated[str, typer.Option(help="The other grader.")],
    store: StoreOption = Path("store"),
    out: Annotated[
        Path | None, typer.Option(help="Write them all, texts included, as CSV.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Where two graders disagree about a run's completions; what is not graded yet is graded.

    Example: python -m premem_core disagreements --run lr2e-5 --grader gsm8k --against math
    """
    from premem_core import regrading

    home = existing_store(store)
    for name in (grader, against):
        regrading.grade(home, run, name, _print_graded)
    compared = regrading.compare(home, run, grader, against)
    rows = regrading.disagreements(home, run, grader, against)
    if out:
        try:
            rows.to_csv(out, index=False)
        except OSError as error:
            raise PrememError(f"{out} cannot be written ({error.strerror})") from error
        say(f"{len(rows):,} disagreements written to {out}")
    if as_json:
        print_json(
            {
                "run": run,
                "one": grader,
                "other": against,
                "completions": compared.completions,
                "disagreements": compared.disagreements,
                "about_correctness": compared.about_correctness,
                "counts": compared.counts.to_dict("records"),
                "rows": rows.to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{grader} and {against} disagree on {compared.disagreements:,} of "
        f"{compared.completions:,} completions; {compared.about_correctness:,} of these change "
        "what counts as correct"
    )
    typer.echo(compared.cross.rename_axis(index=grader, columns=against).to_string())
    shown = ["step", "split", "id", "sample", "answer", "extracted_one", "extracted_other"]
    if len(rows):
        typer.echo(rows[shown].head(10).map(repr).to_string(index=False))
    if len(rows) > 10 and not out:
        typer.echo(f"and {len(rows) - 10:,} more; --out FILE.csv or --json gives them all")


def _print_graded(done: int, total: int) -> None:
    if total:
        say(f"{done / total:6.1%}  {done:,} of {total:,} completions graded")
