"""Broken cascade and model files through the command line: exit code 2, place and cure."""

import sys

import pytest

from archsim import cli

HEAD = "name: mine\ncascade: |\n"


def refused(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["archsim", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("Z = A[k]*", "mine.yaml:3:"),
        ("Z = A[k", "mine.yaml:3:"),
        ("Z == A[k]", "this is not an Einsum"),
        ("Z = A[k:]", "slices are not indices"),
        ("Z = A[k]*lambda", "mine.yaml:3:"),
        ("z[k] = A[k]", "starts with a capital"),
        ("Z = foo(A[k])", "unknown function 'foo'"),
        ("Z = exq(A[k])", "did you mean 'exp'?"),
        ("Z = smu[k](A[k])", "did you mean 'sum'?"),
        ("Z = sum(A[k])", "write sum[m](...)"),
        ("Z = exp(A[k], 2)", "exp takes 1 argument, not 2"),
        ("Z = 1 + sum[k](A[k])", "must enclose the whole right side"),
        ("Z = exp(A[k])", "nothing says how it is reduced"),
        ("Z[k] = sum[k](A[k])", "is reduced and also kept"),
        ("Z = sum[j](A[k])", "'j' is reduced but does not occur"),
        ("Z[k*2] = A[k]", "no legal index on the left side"),
        ("Z[k,k] = A[k]", "occurs twice on the left side"),
        ("Z = A[k]*B[j] where", "'where' without a condition"),
        ("Z[k] = A[k] where k + 1", "a filter must be a comparison"),
        ("Z[k] = A[k] if k else B[k]", "not part of the language"),
        ("Z[k] = A[k]*A[k,j]", "A has 1 rank, but A[k,j] gives 2 indices"),
        ("Y[m,p] = A[m]*B[p]\n  Z = Y[p,m]*1", "unknown rank variable"),
        ("X[m] = Y[m]\n  Y[m] = X[m]", "circular definition"),
        ("Z = A[k]*1\n  Z = B[k]*1", "already defined in line 3"),
        ("output Q\n  Z = A[k]*1", "Q is never defined"),
        ("input B[k]\n  Z = A[k]*1", "B is never read"),
        ("rank M = M0\n  Z = A[m0]*1", "a split has two parts or more"),
        ("rank M = M1*M0\n  Z = A[m0]*1", "no index ranges over M1"),
        ("param gamma = fast\n  Z = A[k]*gamma", "the value of a parameter is a number"),
        ("var k, j\n  Z = A[k]*1", "'var' needs 'in'"),
        ("I[p] = argtopk[m](S[p,m])", "fills one new rank"),
        ("Z = A[k]*B", "neither a rank nor a scalar tensor"),
        ("Z = A[1.5]*1", "not legal in an index"),
        ("Z = A[k]*'text'", "not part of the language"),
        ("Z[p] = A[k]*1", "nothing determines the extent of 'p'"),
    ],
)
def test_cascades(lines, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"{HEAD}  {lines}\n")
    message = refused(monkeypatch, capsys, "passes", "mine.yaml")
    assert expected in message
    assert "mine.yaml:" in message
    assert "^" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "the file must hold keys and values"),
        ("- a\n- b\n", "the file must hold keys and values"),
        ("name: x\n\tcascade: y\n", "not YAML"),
        ("name: x\nname: y\ncascade: Z = A[k]\n", "the key 'name' is repeated"),
        ("name: x\ncasade: Z = A[k]\n", "did you mean 'cascade'?"),
        ("name: x\n", "the key 'cascade' is missing"),
        ("name: x\ncascade: [1, 2]\n", "valid string"),
        ("name: a b\ncascade: Z = A[k]*1\n", "mine.yaml:1:7"),
        ("name: x\ncascade: |\n", "the cascade is empty"),
        ("name: x\ncascade: |\n  Z = A[k\n  Y = B[j\n  X = +\n", "mine.yaml:5:"),
    ],
)
def test_files(content, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    message = refused(monkeypatch, capsys, "passes", "mine.yaml")
    assert expected in message
    assert "mine.yaml:" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("name: x\nsource: me\nsizes: {B: 0}\n", "0 is not a positive size"),
        ("name: x\nsource: me\nsizes: {b: 2}\n", "not a positive size of a rank"),
        ("name: x\nsource: me\nsizes: {B: two}\n", "valid integer"),
        ("name: x\nsizes: {B: 2}\n", "the key 'source' is missing"),
        ("name: x\nsource: me\nsize: {B: 2}\n", "did you mean 'sizes'?"),
        ("name: x\nsource: me\nstatus: guessed\nsizes: {B: 2}\n", "mine.yaml:3:9"),
    ],
)
def test_models(content, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(content)
    arguments = ("run", "softmax-1pass", "--arch", "fusemax", "--mapping", "fusemax")
    message = refused(monkeypatch, capsys, *arguments, "--model", "mine.yaml")
    assert expected in message
    assert "mine.yaml:" in message
