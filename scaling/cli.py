"""The command `scaling`: fit a law, predict with it, draw it, import a foreign log.

Exit codes: 0 done (warnings included), 1 a missing extra or a fault of the disk, 2 a mistake in what was asked (one line on
stderr), 130 Ctrl-C.
"""

import argparse
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling import engine, fitted, intervals, sources, words
from scaling.bootstrap import Bootstrap
from scaling.curve_fit import fit_curves
from scaling.errors import InputError
from scaling.fitted import Fit
from scaling.importers import command as import_command
from scaling.law import COUNTINGS, UNITS
from scaling.laws import LAWS, annealing
from scaling.prior import Prior

_FIT_EXAMPLES = """examples:
  scaling fit chinchilla runs/ladder --counting non_embedding --bootstrap 500 --out fit.json
  scaling fit chinchilla runs/quickstart/w*-t[0-9]* --counting total
  scaling fit chinchilla points.csv --counting total --unit nats/token \\
      --columns N='Model Size' C='Training FLOP' --drop-highest 5
  scaling fit annealing cosine.csv constant.csv --unit nats/token --warmup-steps 2160 --out curves.json
  scaling fit annealing runs/schedules --loss heldout_loss --lambda 0.999

SOURCE is a run folder, a folder that holds run folders, or a CSV file (chinchilla: N, D or C, loss,
one run a row; annealing: step, lr, loss, one file a curve)."""

_PREDICT_EXAMPLES = """examples:
  scaling predict fit.json --N 1e6 --D 1e8
  scaling predict fit.json --C 1e18
  scaling predict curves.json --schedule schedule.npy --step 23999
  scaling predict chinchilla/besiroglu2024 --N 7e10 --D 1.4e12"""

_PLOT_EXAMPLES = """example:
  scaling plot fit.json --out picture.png"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (the process's own by default) and returns its exit code."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"scaling: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone; what Python flushes at exit must have somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"scaling: {error.filename}: {error.strerror}" if error.filename else f"scaling: {error}", file=sys.stderr)
        return 2 if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)) else 1
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line like every other mistake, without the usage before it."""

    def error(self, message: str) -> typing.NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scaling", description="Fit scaling laws, predict, draw, import logs.")
    commands = parser.add_subparsers(required=True, metavar="fit | predict | plot | import")
    raw = argparse.RawDescriptionHelpFormatter
    _add_fit(commands.add_parser("fit", help="fit a law", epilog=_FIT_EXAMPLES, formatter_class=raw))
    text = "predict losses, or the best N and D"
    predict = commands.add_parser("predict", help=text, epilog=_PREDICT_EXAMPLES, formatter_class=raw)
    _add_predict(predict)
    plot = commands.add_parser("plot", help="draw a fit", epilog=_PLOT_EXAMPLES, formatter_class=raw)
    plot.add_argument("fit", help="JSON file of a fit")
    plot.add_argument("--out", required=True, type=Path, help="PNG file to write")
    plot.set_defaults(run=_plot)
    import_command.add_to(commands)
    return parser


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "law", choices=list(LAWS), help="; ".join(f"{law.name}: {law.equation}" for law in LAWS.values())
    )
    parser.add_argument("sources", nargs="+", type=words.place, metavar="SOURCE", help="run folders or CSV files")
    parser.add_argument("--unit", choices=UNITS, help="unit of the loss; run records state it themselves")
    parser.add_argument("--out", type=words.place, help="JSON file for the fit")
    parser.add_argument(
        "--bootstrap", type=int, default=0, metavar="K", help="refits for intervals (default: none)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    parser.add_argument("--level", type=float, default=0.9, help="probability of printed intervals")
    parser.add_argument("--delta", type=float, default=1e-3, help="Huber threshold on log losses")
    help_prior = "Gaussian prior, SD of the logarithm: alpha=0.35:0.3"
    parser.add_argument("--prior", action="append", default=[], metavar="NAME=VALUE:SD", help=help_prior)
    rows = parser.add_argument_group("laws in N and D")
    rows.add_argument("--counting", choices=COUNTINGS, help="which parameters N counts")
    rows.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME=HEADER", help="CSV headers of N, D, C, loss"
    )
    rows.add_argument(
        "--drop-highest", type=int, default=0, metavar="K", help="leave out the K highest losses"
    )
    rows.add_argument("--scheme", choices=("rows", "residual"), default="rows", help="what is resampled")
    help_strata = "resample within values of this column, or none (default: N where each N has several rows)"
    rows.add_argument("--strata", metavar="COLUMN", help=help_strata)
    rows.add_argument("--groups", metavar="COLUMN", help="resample equal values of this column together")
    curves = parser.add_argument_group("annealing")
    curves.add_argument(
        "--loss", choices=("heldout_loss", "train_loss"), default="heldout_loss", help="column of records"
    )
    curves.add_argument(
        "--lambda", dest="lambda_", type=float, default=annealing.LAMBDA, help="decay of S2's momentum"
    )
    help_warmup = "peak: as if at the peak (the paper); drops: S1 as run, S2 without rises; asis: both as run"
    curves.add_argument("--warmup", choices=("peak", "drops", "asis"), default="peak", help=help_warmup)
    curves.add_argument(
        "--warmup-steps", type=int, default=0, metavar="W", help="linear warm-up that CSV rows lack"
    )
    curves.add_argument(
        "--from-step", type=int, default=0, metavar="S", help="leave out points before update S"
    )
    parser.set_defaults(run=_fit)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fit", help="JSON file of a fit, or LAW/KEY of published coefficients")
    parser.add_argument("--N", type=float, help="parameters, counted as in the fit")
    parser.add_argument("--D", type=float, help="tokens")
    parser.add_argument("--C", type=float, help="FLOPs: the best N and D at C = 6 N D")
    parser.add_argument("--schedule", type=words.place, help=".npy file with the rate of every update")
    parser.add_argument("--step", type=int, nargs="+", help="updates to predict at (default: the last)")
    parser.add_argument(
        "--warmup-steps", type=int, help="warm-up of the schedule (default: up to its first peak)"
    )
    parser.add_argument("--level", type=float, default=0.9, help="probability of the interval")
    parser.add_argument(
        "--law-only", action="store_true", help="interval of the law, without single-run scatter"
    )
    parser.set_defaults(run=_predict)


def _fit(arguments: argparse.Namespace) -> None:
    prior = [words.prior(text) for text in arguments.prior]
    fit = _fit_curves(arguments, prior) if arguments.law == "annealing" else _fit_rows(arguments, prior)
    print(fit.table(arguments.level))
    if arguments.out:
        fitted.save(fit, arguments.out)
        print(f"\nsaved: {arguments.out}")


def _fit_rows(arguments: argparse.Namespace, prior: Sequence[Prior]) -> Fit:
    if arguments.counting is None:
        raise InputError(f"--counting: declare which parameters N counts, one of {', '.join(COUNTINGS)}")
    source, unit = arguments.sources[0], arguments.unit
    folders = all(path.is_dir() for path in arguments.sources)
    if not folders and len(arguments.sources) > 1:
        rule = f"the {arguments.law} law takes folders of runs or one CSV file"
        raise InputError(f"SOURCE: {len(arguments.sources)} given: {rule}")
    if folders:
        data, unit, notes = sources.run_rows(arguments.sources, counting=arguments.counting, unit=unit)
    else:
        names = dict(words.assignment(text) for text in arguments.columns)
        data, notes = sources.csv_rows(source, names, counting=arguments.counting)
    _print_notes(notes)
    if unit is None:
        raise InputError(f"--unit: declare the unit of the loss, one of {', '.join(UNITS)}")
    data = sources.without_highest(data, arguments.drop_highest)
    if arguments.drop_highest:
        _print_notes([f"{arguments.drop_highest} rows of highest loss left out"])
    strata = None if arguments.strata == "none" else arguments.strata
    if arguments.strata is None and np.unique(data["N"], return_counts=True)[1].min() > 1:
        strata = "N"
    how = Bootstrap(
        draws=arguments.bootstrap,
        scheme=arguments.scheme,
        strata=strata,
        groups=arguments.groups,
        seed=arguments.seed,
    )
    return engine.fit(
        arguments.law,
        data,
        unit=unit,
        counting=arguments.counting,
        bootstrap=how if arguments.bootstrap else None,
        prior=prior,
        delta=arguments.delta,
    )


def _fit_curves(arguments: argparse.Namespace, prior: Sequence[Prior]) -> Fit:
    curves, unit = [], arguments.unit
    for source in arguments.sources:
        if source.is_dir():
            found, unit, notes = sources.run_curves(source, loss=arguments.loss, unit=unit)
            curves.extend(found)
        else:
            curve, notes = sources.csv_curve(source, warmup_steps=arguments.warmup_steps)
            curves.append(curve)
        _print_notes(notes)
    if unit is None:
        raise InputError(f"--unit: declare the unit of the loss, one of {', '.join(UNITS)}")
    return fit_curves(
        curves,
        unit=unit,
        lambda_=arguments.lambda_,
        warmup=arguments.warmup,
        from_step=arguments.from_step,
        draws=arguments.bootstrap,
        seed=arguments.seed,
        delta=arguments.delta,
        prior=prior,
    )


def _predict(arguments: argparse.Namespace) -> None:
    fit, level, observed = words.fit(arguments.fit), arguments.level, not arguments.law_only
    if fit.law == "annealing":
        if arguments.schedule is None:
            raise InputError(
                "--schedule: an annealing fit predicts for a .npy file with the rate of every update"
            )
        schedule = words.schedule(arguments.schedule)
        steps = np.array(arguments.step if arguments.step is not None else [schedule.size - 1])
        result = intervals.predict_curve(
            fit, schedule, steps, level=level, observed=observed, warmup_steps=arguments.warmup_steps
        )
        _print_prediction([f"loss at update {step}" for step in steps], result, fit.unit)
        return
    counted = f"{fit.counting} parameters"
    if arguments.C is not None:
        for name, result in intervals.compute_optimal(fit, arguments.C, level=level).items():
            _print_prediction([f"{name} at C = {arguments.C:g}"], result, f"N = {counted}")
        return
    if arguments.N is None or arguments.D is None:
        raise InputError("--N, --D: give both, or --C alone")
    result = intervals.predict(fit, level=level, observed=observed, N=arguments.N, D=arguments.D)
    label = f"loss at N = {arguments.N:g} {counted}, D = {arguments.D:g} tokens"
    _print_prediction([label], result, fit.unit)


def _plot(arguments: argparse.Namespace) -> None:
    from scaling import plots

    fit = words.fit(arguments.fit)
    figure = plots.plot_curves(fit) if fit.law == "annealing" else plots.plot_law(fit)
    plots.save(figure, arguments.out)
    print(f"saved: {arguments.out}")


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def _print_prediction(labels: Sequence[str], result: intervals.Prediction, unit: str) -> None:
    for index, label in enumerate(labels):
        text = f"{label}: {result.point[index]:.6g}"
        if result.low is not None:
            text += f"   [{result.low[index]:.6g}, {result.high[index]:.6g}]"
        print(f"{text}   ({unit})")
    print(f"  interval: {result.interval}")
    for warning in result.warnings:
        print(f"  warning: {warning}")
