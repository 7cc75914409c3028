"""The command line: `premem <command> --help`, or `python -m premem_core <command> --help`.

Exit codes: 0 done, 1 failed, 2 wrong usage. A user's mistake is one sentence on stderr.
"""

import sys
import warnings

import typer

from premem_core import installation
from premem_core.commands import dashboard, grade, imports, jobs, make, push, score, watch
from premem_core.commands.analysis import baselines, check, fit, predict, robustness
from premem_core.commands.curation import collect, curate, labels
from premem_core.commands.options import say
from premem_core.errors import PrememError, PrememWarning, UsageError
from premem_core.scoring.job_process import Cancelled

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pre-memorization train accuracy of a fine-tuning run (arXiv 2411.07681).",
)
for command in (
    *(score.score, watch.watch, fit.fit, predict.predict, fit.replay, baselines.baselines),
    *(robustness.robustness, check.check, curate.curate, collect.collect, collect.generate),
    *(labels.labels, baselines.ifd, push.push),
    *(
        grade.graders,
        grade.grade,
        grade.regrade,
        grade.disagreements,
        grade.override,
        grade.overrides,
    ),
    *(imports.import_samples, imports.import_published),
    *(make.finetune, make.demo, dashboard.dashboard),
):
    app.command()(command)
app.add_typer(jobs.jobs_app, name="jobs")


def main() -> None:
    """Run a command; a mistake of the user's ends in one sentence and an exit code."""
    warnings.formatwarning = _formatted
    try:
        app()
    except UsageError as error:
        say(f"error: {error}")
        sys.exit(2)
    except PrememError as error:
        say(f"error: {error}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (explained := installation.explain(error)) is None:
            raise
        say(f"error: {explained}")
        sys.exit(1)
    except (Cancelled, KeyboardInterrupt):
        say("stopped; finished results are kept; to continue, run it again (score: with --resume)")
        sys.exit(1)


_as_python_does = warnings.formatwarning


def _formatted(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning of Premem's own as one sentence, any other one as Python shows it."""
    if issubclass(category, PrememWarning):
        return f"warning: {message}\n"
    return _as_python_does(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
