"""The tables of the other benchmarks: of every measurement the last counts."""

from __future__ import annotations

from pathlib import Path

from experiments import speed


def test_the_family_beside_the_plain_loss() -> None:
    costs = speed.family_costs()
    assert {"margin", "smoothing", "class weight", "scale", "soft cap"} <= set(costs.index)
    assert costs.loc["margin"].notna().all()
    assert (costs.stack().dropna() > 0.5).all()
    assert set(speed.product_gains().index) == {"Hessian-vector product", "softmax VJP"}
    assert (speed.family_scatter() >= 1).all()
    assert list(speed.family_scatter().index) == list(costs.columns)


def test_the_plain_loss_scatters(tmp_path: Path) -> None:
    header = "task,dtype,n,k,ms,peer,peer_ms,ratio"
    rows = [
        f"margin,float32,8,4,1,{peer},{ms},1"
        for peer, ms in (("plain loss", 9.0), ("plain loss", 2.0), ("torch backward", 50.0))
    ]
    rows += [
        "gate,float32,8,4,1,plain loss,3.0,1",
        "distribution as target,float32,8,4,1,plain loss,70.0,1",
        "gate,float64,8,4,1,plain loss,8.0,1",
    ]
    (tmp_path / "t.csv").write_text("\n".join([header, *rows]))
    assert speed.family_scatter(tmp_path / "t.csv").to_dict() == {"8 x 4": 1.5}


def test_autograd_has_both_tasks_and_all_types(tmp_path: Path) -> None:
    table = speed.autograd()
    assert set(table.index.get_level_values("task")) == {"loss", "step"}
    assert set(table.loc["loss"].index.get_level_values("dtype")) == {"float32", "bfloat16", "float16"}
    header = "task,dtype,n,k,provider,ms,buffers"
    # the last counts
    rows = ["softmax_lab,2.0,1.0", "torch,9.0,3.0", "torch.compile,5.0,1.0", "torch,8.0,3.0"]
    (tmp_path / "t.csv").write_text("\n".join([header, *(f"loss,float32,4,3,{row}" for row in rows)]))
    row = speed.autograd(tmp_path / "t.csv").iloc[0]
    assert row.tolist() == [2.0, 4.0, 2.5, 1.0, 3.0]


def test_a_step_is_longer_or_shorter_only_where_the_middles_are_apart(tmp_path: Path) -> None:
    header = "task,dtype,n,k,provider,ms,ms_20,ms_80"
    rows = [
        *("2,softmax_lab,9.0,9.0,9.0", "2,softmax_lab,2.5,2.4,2.6", "2,torch,2.0,1.9,2.1"),
        *("4,softmax_lab,3.0,2.0,4.0", "4,torch,2.0,1.0,2.5"),
        *("8,softmax_lab,5.0,4.9,5.1", "8,torch,7.0,5.2,7.1"),
    ]
    (tmp_path / "t.csv").write_text("\n".join([header, *(f"step,float32,1,{row}" for row in rows)]))
    found = speed.steps_in_words(path=tmp_path / "t.csv")
    assert found == "0.50 ms longer at 2 classes, level at 4 classes and 2.00 ms shorter at 8 classes"


def test_half_precision_is_compared_at_both_scales(tmp_path: Path) -> None:
    table = speed.half_precision()
    assert set(table.index.get_level_values("scale")) == {1.0, 65536.0}
    assert set(table.index.get_level_values("dtype")) == {"bfloat16", "float16"}
    header = "dtype,n,k,scale,provider,ms,zeros"
    rows = ["softmax_lab,2.0,0.0", "one pass,1.0,0.5", "torch,9.0,0.25", "torch,8.0,0.25"]  # the last counts
    (tmp_path / "t.csv").write_text("\n".join([header, *(f"float16,4,3,65536.0,{row}" for row in rows)]))
    assert speed.half_precision(tmp_path / "t.csv").iloc[0].tolist() == [2.0, 0.5, 4.0, 0.0, 0.5, 0.25]


def test_linear_layers_are_medians(tmp_path: Path) -> None:
    lines = [
        "dtype,n,d,v,provider,seconds,ratio,peak_mb",
        *(f"float32,8,4,5,ours,{s},{s / 2},{10 * s}" for s in (1, 2, 9)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert speed.linear_layers(tmp_path / "t.csv").iloc[0].tolist() == [2.0, 1.0, 20.0]
    assert "softmax_lab" in speed.linear_layers().index.get_level_values("provider")
