"""``make bench``: its table says what was measured, missed, failed and left out."""

import importlib.util
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_table_of_claims(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("every_claim", BENCHMARKS / "all.py")
    bench = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "every_claim", bench)
    spec.loader.exec_module(bench)
    for words, claims in bench.BENCHMARKS:
        assert words[0] == "-c" or (BENCHMARKS / words[0]).is_file()
        assert all((BENCHMARKS.parent / "docs" / claim.page).is_file() for claim in claims)
    high = bench.Claim("high", "a.md", r"ratio ([\d.]+)", 1.5)
    low = high._replace(text="low", least=False)
    monkeypatch.setattr(bench, "BENCHMARKS", [
        bench.Benchmark(("-c", "print('ratio 1.75, ratio 1.60')"), (high, low, high._replace(goal=None))),
        bench.Benchmark(("-c", "raise SystemExit('no such package')"), (high,)),
        bench.Benchmark(("-c", "import time; time.sleep(30)"), (low,)),
    ])  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["all.py", "--minutes", "0.05"])
    bench.main()
    assert capsys.readouterr().out.splitlines()[4:] == [
        "| high | a.md | 1.60 | >= 1.5 | met |",
        "| low | a.md | 1.75 | <= 1.5 | MISSED |",
        "| high | a.md | 1.60 |  |  |",
        "| high | a.md |  | >= 1.5 | failed: no such package |",
        "| low | a.md |  | <= 1.5 | no time was left |",
    ]
