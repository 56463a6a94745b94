"""Wrong inputs, one table for every command: each ends in one clear line with the right exit code."""

from pathlib import Path

import pytest

import jaxlm.cli
import scaling.cli

TINY = str(Path(__file__).resolve().parents[1] / "sweep" / "tiny_study.py")
TRUNK = f"{TINY}:trunk"

# (command line, exit code, words of the line). TMP stands for an empty folder, which must stay without a record.
TABLE = [
    ("jaxlm", 2, "required: COMMAND"),
    ("jaxlm stduy", 2, "invalid choice: 'stduy'"),
    # study
    ("jaxlm study quickstrat --out TMP", 2, "did you mean 'quickstart'"),
    ("jaxlm study nowhere.py --out TMP", 2, "study 'nowhere.py': no such file"),
    ("jaxlm study quickstart --wrkers 3 --out TMP", 2, "--wrkers: no such option"),
    (f"jaxlm study {TINY} --workers -1 --out TMP", 2, "workers = -1: must not be negative"),
    (f"jaxlm study {TINY} --workers two --out TMP", 2, "workers = 'two': must be of type int, not str"),
    (f"jaxlm study {TINY} --out s3://bucket/runs", 2, "out = 's3://bucket/runs': a study and its report need a local"),
    (f"jaxlm study {TINY} --mirror tensorbord --out TMP", 2, "mirror = 'tensorbord': must be one of tensorboard, wandb"),
    # train
    (f"jaxlm train {TINY} --out TMP", 2, "must be STUDY:RUN"),
    (f"jaxlm train {TINY}:trunc --out TMP", 2, "did you mean 'trunk'"),
    (f"jaxlm train {TRUNK} --model.wdth=3 --out TMP", 2, "model.wdth: no such option; did you mean 'width'?"),
    (f"jaxlm train {TRUNK} --model.width x --out TMP", 2, "model.width = 'x': must be of type int, not str"),
    (f"jaxlm train {TRUNK} --out TMP --model.width", 2, "--model.width: needs a value"),
    (f"jaxlm train {TRUNK} --model.heads=3 --out TMP", 2, "model.width = 8: must be divisible by heads = 3"),
    (f"jaxlm train {TRUNK} --accumulation=3 --out TMP", 2, "batch = 4: must be divisible by accumulation = 3"),
    (f"jaxlm train {TRUNK} --mesh.data=8 --out TMP", 2, "must be divisible by mesh.replica * mesh.data * mesh.fsdp = 8"),
    (f"jaxlm train {TRUNK} --mesh.tensor=8 --out TMP", 2, "mesh = (1, 1, 1, 8, 1): needs 8 devices"),
    (f"jaxlm train {TRUNK} --schedule.decay=99 --out TMP", 2, "decay = 99: must not be longer than the run"),
    (f"jaxlm train {TRUNK} --data.sequence=99 --out TMP", 2, "must not exceed model.sequence = 16"),
    (f"jaxlm train {TRUNK} --optimizer.kind=adamm --out TMP", 2, "must be one of 'adafactor', 'adamw', 'apollo'"),
    (f"jaxlm train {TRUNK} --optimizer.kind=galore --optimizer.rank=0 --out TMP", 2,
     "optimizer.rank = 0: must be a whole number of at least 1"),
    (f"jaxlm train {TRUNK} --optimizer.b2=1.0 --out TMP", 2, "optimizer.b2 = 1.0: must lie in [0, 1)"),
    (f"jaxlm train {TRUNK} --checkpoint.best=1 --out TMP", 2, "checkpoint.best"),
    (f"jaxlm train {TRUNK} --diagnostics.every=-2 --out TMP", 2, "diagnostics.every = -2: must not be negative"),
    (f"jaxlm train {TINY}:t18 --out TMP", 2, "no such run in"),
    (f"jaxlm train {TRUNK} --stop-at 0 --out TMP", 2, "stop_at = 0: must lie in 1..updates = 24"),
    (f"jaxlm train {TRUNK} --stop-at 99 --out TMP", 2, "stop_at = 99: must lie in 1..updates = 24"),
    (f"jaxlm train {TRUNK} --checkpoints s3://bucket --out TMP", 2, "Orbax saves to local folders and gs://"),
    (f"jaxlm train {TRUNK} --out memory://runs", 2, "Orbax saves to local folders and gs://"),
    (f"jaxlm train {TRUNK} --out foo://runs", 2, "foo"),
    (f"jaxlm train {TRUNK} --out /proc/nowhere", 2, "must be a folder"),
    # data
    ("jaxlm data info nowhere.txt --out TMP", 2, "'nowhere.txt': no such file"),
    ("jaxlm data prepare --sequence 0 --out TMP", 2, "sequence = 0"),
    # optimizers, memory
    ("jaxlm optimizers adamm", 2, "optimizer = 'adamm': no such optimizer; did you mean 'adamw'?"),
    ("jaxlm memory muom", 2, "optimizer = 'muom': no such optimizer; did you mean 'muon'?"),
    ("jaxlm memory galore:rnk=3", 2, "optimizer.rnk: no such option; did you mean 'rank'?"),
    ("jaxlm memory galore:rank", 2, "optimizer = 'galore:rank': must be KIND or KIND:FIELD=VALUE,..."),
    ("jaxlm memory galore:rank=-1", 2, "optimizer.rank = -1: must be a whole number of at least 1"),
    ("jaxlm memory adamw --fsdp 0", 2, "fsdp = 0: must be at least 1"),
    ("jaxlm memory adamw --tensor 2", 2, "mesh.tensor = 2: must divide the axis 'ff' of "),
    ("jaxlm memory adamw --model quickstart", 2, "model = 'quickstart': must be STUDY:RUN"),
    # runs, checkpoints, doctor
    ("jaxlm runs nowhere", 2, "root = 'nowhere': no such folder"),
    ("jaxlm runs TMP --where N", 2, "where = 'N': must be FIELD OP VALUE"),
    ("jaxlm runs TMP --limit 0", 2, "limit = 0: must be at least 1"),
    ("jaxlm runs TMP --rows", 2, "rows = True: needs --csv or --parquet"),
    ("jaxlm runs TMP --csv nowhere/x.csv", 2, "csv = 'nowhere/x.csv': must name a file in a folder that is there"),
    ("jaxlm runs show nosuch --under TMP", 2, "nosuch"),
    ("jaxlm runs compare a", 2, "takes 2 RUN, got 1"),
    ("jaxlm checkpoints TMP --latest 0", 2, "latest = 0"),
    ("jaxlm checkpoints nowhere", 2, "'nowhere'"),
    (f"jaxlm doctor --out {TINY}", 2, "tiny_study.py"),
    # scaling
    ("scaling", 2, "required: COMMAND"),
    ("scaling fti", 2, "invalid choice: 'fti'"),
    ("scaling fit nolaw TMP", 2, "law = 'nolaw': must be one of chinchilla"),
    ("scaling fit chinchilla TMP --counting total", 2, "holds no run folder"),
    ("scaling fit chinchilla TMP --counting most", 2, "--counting: invalid choice: 'most'"),
    ("scaling fit chinchilla TMP --unit nats", 2, "--unit: invalid choice: 'nats'"),
    ("scaling fit chinchilla TMP --bootstrap -1", 2, "--bootstrap: '-1': must be a whole number from 0"),
    ("scaling fit chinchilla nowhere.csv --counting total --unit nats/token", 2, "nowhere.csv"),
    ("scaling fit chinchilla foo://runs --counting total", 2, "foo"),
    (
        "scaling fit over_training+error+accuracy TMP",
        2,
        "'over_training+error+accuracy': a chain has two laws",
    ),
    ("scaling fit over_training+error TMP --pin A=1", 2, "--pin: is for one law"),
    ("scaling predict nowhere.json --params 1e6 --tokens 1e6", 2, "nowhere.json"),
    ("scaling predict chinchilla --params 1e6 --tokens 1e6", 2, "name a file, or a publication: chinchilla@"),
    (
        "scaling predict chinchilla@nobody --params 1e6 --tokens 1e6",
        2,
        "published = 'nobody': the chinchilla law knows",
    ),
    ("scaling predict chinchilla@besiroglu2024 --tokens 1e6", 2, "--params: the law needs N, D"),
    (
        "scaling predict chinchilla@besiroglu2024 --params -1 --tokens 1e6",
        2,
        "query N = -1.0: must be finite and above 0",
    ),
    (
        "scaling predict chinchilla@besiroglu2024 --params 1 --tokens 1 --level 2",
        2,
        "level = 2.0: must lie between 0 and 1",
    ),
    (
        "scaling predict chinchilla@besiroglu2024 --params 1 --tokens 1 --output lr",
        2,
        "output = 'lr': the chinchilla law gives loss",
    ),
    ("scaling predict chinchilla@besiroglu2024 --params 1 --tokens 1 --at U", 2, "'U': must read NAME=VALUE"),
    ("scaling predict chinchilla@besiroglu2024 --params 1 --tokens 1 --method profile", 2, "carry no rows"),
    (
        "scaling predict chinchilla@besiroglu2024 --schedule x.npy",
        2,
        "--schedule: a law of single runs takes N, D",
    ),
    ("scaling predict annealing@tissue2024", 2, "--schedule: the annealing law predicts for a .npy file"),
    (
        "scaling predict annealing@tissue2024 --schedule nowhere.npy",
        2,
        "--schedule = 'nowhere.npy': No such file",
    ),
    ("scaling optimal", 2, "--flops, or --params and --tokens: say what to optimise for"),
    ("scaling optimal --flops 1e20", 2, "FIT: name a fit, or LAW@KEY"),
    ("scaling optimal chinchilla@hoffmann2022 --flops -1", 2, "flops = -1: must be finite and above"),
    ("scaling optimal kaplan_size@kaplan2020 --flops 1e20", 2, "optimal needs a loss in N and D"),
    ("scaling optimal --params 1e9 --tokens 1e10", 2, "counting = None: must be one of"),
    ("scaling crossover chinchilla@hoffmann2022 chinchilla@nobody", 2, "published = 'nobody'"),
    ("scaling crossover chinchilla@hoffmann2022 chinchilla@besiroglu2024", 2, "at: no value of 'D'"),
    ("scaling explain chinchilla@hoffmann2022", 2, "published coefficients carry no rows"),
    ("scaling next chinchilla@hoffmann2022 --params 1e9 --tokens 1e10", 2, "next needs draws"),
    (
        "scaling schedule annealing@tissue2024 --steps 600 --warmup-steps 700 --peak-lr 1e-3",
        2,
        "warmup_steps = 700: must be from 0",
    ),
    ("scaling schedule annealing@tissue2024 --steps 600", 2, "required: --warmup-steps"),
    (
        "scaling schedule annealing@tissue2024 --steps 600 --warmup-steps 9 --peak-lr 1e-3 --floor 1",
        2,
        "floor = 1.0: must be from 0",
    ),
    ("scaling sources nolaw", 2, "law = 'nolaw': must be one of chinchilla"),
    ("scaling convert --params 1e9", 2, "--from, --to: say what --params counts"),
    (
        "scaling convert --loss -3 --from nats/token --to bits/token",
        2,
        "--loss = -3: must be finite and above 0",
    ),
    ("scaling import maxtext nowhere.jsonl --out TMP/x", 2, "nowhere.jsonl"),
]


@pytest.mark.parametrize(("line", "code", "message"), TABLE, ids=[line.replace(TINY, "TINY") for line, *_ in TABLE])
def test_a_wrong_input_is_one_line(line, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    command, *words = line.replace("TMP", str(tmp_path)).split()
    main = jaxlm.cli.main if command == "jaxlm" else scaling.cli.main
    assert main(words) == code
    stderr = capsys.readouterr().err
    assert message in stderr and stderr.count("\n") == 1 and stderr.startswith(f"{command}: "), stderr
    assert "Traceback" not in stderr and not list(tmp_path.rglob("run.json"))


def test_the_table_is_long_enough():
    assert len(TABLE) >= 40 and len({line for line, *_ in TABLE}) == len(TABLE)
