"""graders, grade, regrade, disagreements, override, overrides: give, compare and change grades."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from premem_core.commands.options import (
    JsonOption,
    StoreOption,
    existing_store,
    print_json,
    say,
    task_of,
)
from premem_core.errors import PrememError, UsageError
from premem_core.files import write_whole
from premem_core.records import Grade, SampleKey
from premem_core.store.database import Store
from premem_core.store.examples import read_task_examples
from premem_core.store.grades import read_overrides

if TYPE_CHECKING:
    from premem_core.grading.hand_agreement import HandAgreement
    from premem_core.grading.regrade import Regraded

SHOWN = 10  # disagreements that are printed
GRADER_HELP = "A grader with its settings, such as math or number?tolerance=0.01 (see `graders`)"


def graders(as_json: JsonOption = False) -> None:
    """List the graders with their settings, also those of installed packages.

    A setting is written behind the name, as in a URL: number?tolerance=0.01&units=km. Every grader
    has the settings rule (hash, boxed or regex:PATTERN: where an answer is looked for first) and
    marks (OPENING…CLOSING: the marks around a thinking trace). A function of your own is
    FILE.py:function.

    Example: python -m premem_core graders
    """
    from premem_core.grading.graders import describe_graders

    described = describe_graders()
    if as_json:
        print_json(described)
        return
    for name, about in described.items():
        typer.echo(f"{name:8} {about}")


def grade(
    grader: Annotated[str, typer.Option(help=f"{GRADER_HELP}.")] = "gsm8k",
    as_json: JsonOption = False,
) -> None:
    """Grade completions from standard input, which has one JSON object per line.

    Example: echo '{"completion": "#### 18", "reference": "18"}' | python -m premem_core grade
    """
    from premem_core.grading.graders import make_grader

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
    completions, references = [c for c, _ in pairs], [r for _, r in pairs]
    with make_grader(grader, allow_code=True) as chosen_grader:
        for graded in chosen_grader.grade(completions, references):
            row = {"grade": graded.grade.name, "extracted": graded.extracted}
            typer.echo(json.dumps(row) if as_json else f"{row['grade']}\t{row['extracted'] or ''}")


def regrade(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    grader: Annotated[
        str,
        typer.Option(
            help=f"{GRADER_HELP}; in an old store, 'as scored' returns to the first grades."
        ),
    ],
    store: StoreOption = Path("store"),
    keep_scores: Annotated[
        bool,
        typer.Option(help="Only store the grades; the run's accuracies do not change."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Grade a scored run's completions with another grader, and use its grades for accuracies.

    It draws no samples and deletes no grades: the same command with the former grader undoes it.

    Example: python -m premem_core regrade --store store --run lr2e-5 --grader math
    """
    from premem_core.grading.regrade import grade_again, regrade_run

    home = existing_store(store)
    grader = _grader_of_run(home, run, grader)
    if keep_scores:
        done_now = grade_again(home, run, grader, _print_graded, allow_code=True)
        say(f"{done_now:,} completions graded")
        return
    done = regrade_run(home, run, grader, _print_graded, allow_code=True)
    change = done.change
    if as_json:
        print_json(
            {
                "run": run,
                "grader": grader,
                "grader_before": change.grader_a,
                "completions": change.completions,
                "newly_graded": done.newly_graded,
                "changed": change.disagreements,
                "accuracy": change.accuracies.rename(
                    columns={"one": "before", "other": "after"}
                ).to_dict("records"),
            }
        )
    else:
        _print_change(grader, done)


def _grader_of_run(store: Store, run: str, grader: str) -> str:
    """The text that stands for a grader in the store; a run's former graders are found as named."""
    from premem_core.grading.graders import canonical_grader
    from premem_core.grading.run_graders import read_graders

    return grader if grader in read_graders(store, run).names else canonical_grader(grader)


def _print_change(grader: str, done: "Regraded") -> None:
    change = done.change
    typer.echo(
        f"{done.newly_graded:,} completions graded with {grader}; {change.disagreements:,} of "
        f"{change.completions:,} grades differ from those of {change.grader_a}"
    )
    for row in change.accuracies.to_dict("records"):
        name = f"{row['split']} {row['perturbation']}".strip()
        typer.echo(f"{name}: {row['one']:.2%} correct before, {row['other']:.2%} after")


def disagreements(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    grader: Annotated[str, typer.Option(help=f"The first grader. {GRADER_HELP}.")],
    against: Annotated[str, typer.Option(help="The second grader.")],
    store: StoreOption = Path("store"),
    out: Annotated[
        Path | None,
        typer.Option(help="Write all disagreements with their texts to this CSV file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the completions of a run that two graders grade differently.

    Completions that one of the graders has not graded yet are graded first. Where grades were set
    by hand, it also says how often each grader agrees with them.

    Example: python -m premem_core disagreements --run lr2e-5 --grader gsm8k --against math
    """
    from premem_core.grading import grader_comparison
    from premem_core.grading.hand_agreement import hand_agreement
    from premem_core.grading.regrade import grade_again

    home = existing_store(store)
    grader, against = (_grader_of_run(home, run, name) for name in (grader, against))
    for name in (grader, against):
        grade_again(home, run, name, _print_graded, allow_code=True)
    by_hand = {name: hand_agreement(home, run, name) for name in (grader, against)}
    compared = grader_comparison.compare_graders(home, run, grader, against)
    rows = grader_comparison.disagreements(home, run, grader, against)
    if out:
        with write_whole(out) as unfinished:
            rows.to_csv(unfinished, index=False)
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
                "by_hand": {name: asdict(agreement) for name, agreement in by_hand.items()},
                "counts": compared.counts.to_dict("records"),
                "rows": rows.to_dict("records"),
            }
        )
        return
    typer.echo(
        f"{grader} and {against} disagree on {compared.disagreements:,} of "
        f"{compared.completions:,} completions; on {compared.about_correctness:,} of them, only "
        "one of the two grades is 'correct'"
    )
    typer.echo(compared.cross.rename_axis(index=grader, columns=against).to_string())
    for name, agreement in by_hand.items():
        _print_agreement(name, agreement)
    columns = ["step", "split", "id", "sample", "answer", "extracted_one", "extracted_other"]
    if len(rows):
        typer.echo(rows[columns].head(SHOWN).map(repr).to_string(index=False))
    if len(rows) > SHOWN and not out:
        typer.echo(f"and {len(rows) - SHOWN:,} more; --out FILE.csv or --json writes all of them")


def _print_agreement(grader: str, agreement: "HandAgreement") -> None:
    if agreement.n:
        typer.echo(
            f"{grader} agrees with {agreement.agree:,} of {agreement.n:,} grades set by hand "
            f"(Cohen's kappa {agreement.kappa:.2f})"
        )


def override(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    problem: Annotated[str | None, typer.Option("--id", help="The problem's id.")] = None,
    step: Annotated[int | None, typer.Option(help="The checkpoint's step.")] = None,
    completion: Annotated[
        int | None, typer.Option(min=1, help="The completion's number, from 1, as on the pages.")
    ] = None,
    grade: Annotated[str | None, typer.Option(help="correct or incorrect.")] = None,
    reason: Annotated[
        str, typer.Option(help="Why the grader is wrong; it is stored with the grade.")
    ] = "",
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
    perturbation: Annotated[
        str, typer.Option(help="The name of the perturbation, if the query is perturbed.")
    ] = "",
    undo: Annotated[
        int | None, typer.Option(help="Undo the grade with this number (see `overrides`).")
    ] = None,
    store: StoreOption = Path("store"),
) -> None:
    """Set a completion's grade by hand; it replaces the grade of any grader, on every page.

    Example: python -m premem_core override --run lr2e-5 --step 945 --id train-0012 --completion 3
    --grade correct --reason "the answer is written out"
    """
    from premem_core.grading import hand_grades

    home = existing_store(store)
    if undo is not None:
        hand_grades.undo_grade(home, run, undo)
        typer.echo(f"grade {undo}, set by hand, is undone")
        return
    if problem is None or step is None or completion is None or grade is None:
        raise UsageError("a grade by hand needs --id, --step, --completion and --grade")
    if grade.upper() not in Grade.__members__:
        raise UsageError(f"--grade must be correct or incorrect, not '{grade}'")
    examples = read_task_examples(home, task_of(home, run), split).set_index("id")
    if problem not in examples.index:
        raise UsageError(
            f"the task of this run has no {split} problem '{problem}'; check --id and --split"
        )
    key = SampleKey(step, split, perturbation, int(examples["example"][problem]), completion - 1)
    hand_grades.set_grade(home, run, key, Grade[grade.upper()], reason)
    typer.echo(
        f"completion {completion} of problem {problem} at step {step} now counts as {grade.lower()}"
    )


def overrides(
    run: Annotated[str, typer.Option(help="The run's name in the store.")],
    store: StoreOption = Path("store"),
    as_json: JsonOption = False,
) -> None:
    """List the grades of a run that were set by hand, with person, time and reason.

    Grades that were undone are listed, too.

    Example: python -m premem_core overrides --store store --run lr2e-5
    """
    home = existing_store(store)
    task_of(home, run)
    rows = read_overrides(home, run)
    rows["completion"] = rows.pop("sample") + 1
    for column in ("grade", "replaced"):
        rows[column] = [Grade(code).name.lower() for code in rows[column]]
    if as_json:
        times = {
            name: rows[name].astype(object).where(rows[name].notna(), None)
            for name in ("made", "undone")
        }
        print_json({"run": run, "overrides": rows.assign(**times).to_dict("records")})
    else:
        rows["reason"] = rows["reason"].str.slice(0, 80).map(repr)  # --json has the whole text
        no_rows = f"no grade of the run '{run}' was set by hand"
        typer.echo(rows.to_string(index=False) if len(rows) else no_rows)


def _print_graded(done: int, total: int) -> None:
    if total:
        say(f"{done / total:6.1%}  {done:,} of {total:,} completions graded")
