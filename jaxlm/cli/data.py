"""`jaxlm data`: prepares text as tokens, and says what it holds."""

import argparse
from pathlib import Path

from jaxlm.cli.study import add_out, data_root


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser("data", help="prepare text and describe it", allow_abbrev=False,
                                 description="Prepares text as token arrays, once, and describes them.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text in (("prepare", "tokenise the sources (does nothing where it is done)"),
                       ("info", "print documents, tokens, bytes per token and digests")):
        action = actions.add_parser(
            name, help=text, allow_abbrev=False, description=text.capitalize() + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="Without files: the corpus packages where they are installed, else Python's standard library.")
        action.add_argument("files", nargs="*", type=Path, help="your own text, JSONL or Parquet files")
        action.add_argument("--text-field", default="text", metavar="NAME",
                            help="the field of JSONL or Parquet files that holds the text (default: text)")
        action.add_argument("--tokenizer", type=Path, metavar="FILE",
                            help="a Hugging Face tokenizers JSON file (default: bytes)")
        action.add_argument("--sequence", type=int, default=128, metavar="T", help="tokens per window (default: 128)")
        add_out(action)
        action.set_defaults(run=run, command="data", action=name)


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Runs the command."""
    from jaxlm import data
    from scaling.record.files import folder as open_folder

    if args.files:
        source = data.Files(paths=tuple(map(str, args.files)), text_field=args.text_field)
    else:
        source, line = data.corpus_or_stdlib()
        print(line)
    tokenizer = data.HuggingFace(path=str(args.tokenizer)) if args.tokenizer else data.Bytes()
    config = data.DataConfig(sources=(source,), tokenizer=tokenizer, sequence=args.sequence)
    root = data_root(open_folder(args.out))
    data.prepare_all(config, root)
    if args.action == "info":
        print(data.describe(data.open_dataset(config, root)))
    else:
        print(f"prepared under {root}")
    return 0
