"""What every test of the importers declares, and the two commands that they run."""

from scaling import cli, record

DECLARED = ("state=finished", "seed=3", "params.total=124e6", "params.non_embedding=85_000_000",
            "params.with_head=123999999", "tokens_per_update=64", "loss_unit=nats/token", "corpus.name=c4")


def run_import(*arguments, declared=DECLARED):
    """Runs `scaling import` and returns its exit code."""
    options = ["--set", *declared] if declared else []
    return cli.main(["import", *map(str, arguments), *options])


def imported(folder, *arguments, declared=DECLARED):
    """Imports into `folder` and returns the record."""
    assert run_import(*arguments, "--out", folder, declared=declared) == 0
    return record.read(folder)


def complaint(capsys, *arguments, declared=DECLARED):
    """Runs an import that must fail with exit code 2 and one line; returns that line."""
    capsys.readouterr()
    assert run_import(*arguments, declared=declared) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1, text
    return text.strip()
