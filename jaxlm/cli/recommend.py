"""`jaxlm recommend`: rate, batch, warm-up, decay and schedule for a run's model and a number of tokens."""

import argparse
import json
import warnings

from jaxlm.config import require


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "recommend", help="rate, batch, warm-up, decay and schedule for a model and tokens", allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Prints what to set for a run's model, each number with the rule that it comes from, its\n"
                    "interval and range of validity. `scaling optimal` prints all rules side by side.\n\n"
                    "  jaxlm recommend --model quickstart:w48-s0-trunk --tokens 1e9\n"
                    "  jaxlm recommend --model quickstart:w48-s0-trunk --tokens 1e9 --rule deepseek --batch 64\n"
                    "  jaxlm recommend --model quickstart:w48-s0-trunk --tokens 1e9 --rule step.json")
    parser.add_argument("--model", required=True, metavar="STUDY:RUN", help="the model and the optimizer of this run")
    parser.add_argument("--tokens", required=True, type=float, metavar="D", help="training tokens")
    parser.add_argument("--rule", action="append", metavar="NAME|FIT.json",
                        help="a rule by name, a fit saved by `scaling`, or Step Law's own draws (.csv); given twice: "
                        "one for the rate, one for the batch (default: step-law)")
    parser.add_argument("--schedule", default="wsd", metavar="wsd|linear|cosine", help="default: wsd")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences of an update, if not the rule's")
    parser.add_argument("--final-loss", type=float, metavar="L", help="expected loss on C4, for rules in the loss")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, command="recommend")


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm.recipes import RecipeWarning, recommend
    from jaxlm.recipes.rules import read
    from jaxlm.sweep import load_study

    name, separator, run_name = args.model.rpartition(":")
    require(bool(separator and name and run_name), "model", args.model, "must be STUDY:RUN")
    like = load_study(name).run(run_name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecipeWarning)  # the table says them
        found = recommend(like.model, args.tokens, rule=[read(rule) for rule in args.rule or ["step-law"]],
                          schedule=args.schedule, sequence=like.data.sequence, batch=args.batch,
                          optimizer=like.optimizer, final_loss=args.final_loss)
    print(json.dumps(found.to_dict(), indent=1) if args.json else found.table())
    return 0
