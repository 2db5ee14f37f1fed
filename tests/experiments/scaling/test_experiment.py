"""Width sweeps: what is planned, what the cells are, what is resumed, refused and kept."""

import shutil

import jax
import numpy as np
import oracles
import pytest
import xarray
from sweeps import small

from experiments.lab import origin
from experiments.lab.experiment import conduct
from experiments.lab.folders import Folders
from experiments.landscape.experiment import drawn
from experiments.scaling.config import kept_steps
from experiments.scaling.experiment import Scaling, model_of
from experiments.width import Width
from lora_theory.store.dataset import Results, open_dataset
from lora_theory.store.files import ResultsError
from lora_theory.store.pieces import Pieces
from lora_theory.train import curvature, sweep

FILE = "two_layer.npz"
PIECES = 6 + 6 + 4
ONE = dict.fromkeys(("optimizer", "init", "r", "gamma", "rho"), 0)


@pytest.fixture(scope="session")
def data(finished):
    return open_dataset(finished[0] / "results" / FILE).isel(ONE)


def run(folder, cfg=None):
    conduct(Width(), cfg or small(), Folders(folder, folder / "figures"))
    return (folder / FILE).read_bytes()


# --- The plan ---


def test_a_piece_is_a_seed_at_a_width_in_the_order_of_the_data_set():
    cfg = small("first_seed=3", "sweeps.two_layer.gamma=[0.0,1.0]")
    (part,) = Width().plan(cfg)
    found = [(p.gamma, p.width, p.seed) for p in part.pieces.values()]
    counts = {8: 6, 16: 6, 32: 4}
    assert found == [
        (gamma, n, seed) for gamma in (0, 1) for n in counts for seed in range(3, 3 + counts[n])
    ]
    assert len(part.pieces) == len(found)
    assert part.config["sweep"]["widths"] == [8, 16, 32]
    groups = {Width().group(piece) for piece in part.pieces.values()}
    assert len(groups) == 2 * 3
    layout = Width().layout(part, cfg)
    layout.check()
    assert layout.shape("ran") == (1, 1, 1, 2, 1, 3, 6)
    assert layout.shape("test_loss")[7:] == (6, 10, len(kept_steps(cfg)))
    assert layout.shape("line_test_loss")[7:] == (11, len(kept_steps(cfg)))


@pytest.mark.parametrize(
    ("given", "seeds"), [("3", (0, 1, 2)), ("30..33", (30, 31, 32, 33)), ("[5,1,9]", (5, 1, 9))]
)
def test_seeds_of_all_widths_are_a_count_a_range_or_a_list(given, seeds):
    cfg = small("part=null", f"seeds={given}", "first_seed=7")
    for part in Width().plan(cfg):
        layout = Width().layout(part, cfg)
        layout.check()
        assert tuple(layout.coords["seed"]) == seeds
        if part.name != "coordinates":
            by_width = {}
            for piece in part.pieces.values():
                by_width.setdefault(piece._replace(seed=0), []).append(piece.seed)
            assert {tuple(of) for of in by_width.values()} == {seeds}


def test_seeds_that_were_asked_for_by_name_are_those_of_the_list(undrawn, data, tmp_path, capsys):
    run(tmp_path, small("seeds=[5,1]"))
    assert "two_layer: two_layer, seeds 5,1; t = 10" in capsys.readouterr().out
    some = open_dataset(tmp_path / FILE)
    assert some.seed.values.tolist() == [5, 1]
    for name in ("train_loss", "line_test_loss"):
        found = some[name].squeeze().sel(n=[8, 16])  # The widths that have six seeds there.
        expected = data[name].sel(n=[8, 16], seed=[5, 1])
        np.testing.assert_array_equal(found, expected)
    assert some.ran.all()


def test_part_chooses_sweeps_and_each_has_its_config_alone():
    every = small("part=null")
    assert [part.name for part in Width().plan(every)] == [*every.sweeps, "coordinates"]
    assert not {"sweeps", "coordinates"} & Width().science(every).keys()
    (one,) = Width().plan(small("part=[rank_init1]"))
    assert one.name == "rank_init1"
    assert one.config["sweep"]["rank"] == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("two_layer", {"rank": 4, "alpha": 1.0, "gamma": 0.0, "rho": 0.0, "weight": "zero"}),
        ("rank_init2", {"rank": 1, "alpha": 1.0, "gamma": 0.0, "rho": 0.0, "init": "B"}),
    ],
)
def test_a_model_has_what_the_sweep_varies(name, fields):
    cfg = small(f"part=[{name}]")
    (part,) = Width().plan(cfg)
    built = model_of(cfg.sweeps[name], next(iter(part.pieces.values())))
    assert {field: getattr(built, field) for field in fields} == fields
    assert hasattr(built, "weight") == ("weight" in fields)


# --- The cells ---


def anew(width, seed, eta_a, eta_b):
    """Train and test losses (steps, 2), without the engine."""
    cfg = small()
    (piece, *_) = next(iter(Width().plan(cfg))).pieces.values()
    of = cfg.sweeps["two_layer"]
    model, data = drawn(model_of(of, piece._replace(width=width)), of.task)(jax.random.key(seed))
    parts = (model.w_in[...], model.w_out[...], model.lora.lora_a[...], model.lora.lora_b[...])
    arrays = [np.asarray(array, np.float64) for array in (*parts, *data)]
    return oracles.two_layer(*arrays[:4], arrays[4:], eta_a, eta_b, 10, "mse")


@pytest.mark.parametrize("width", [8, 16, 32])
def test_scaled_cells_are_raw_ones_some_whole_cells_on(width, data):
    """n η_A = 1/2 and 1/8, η_B alike at all widths: a cell further down at each doubling."""
    of = data.sel(n=width, seed=2)
    for scaled, at_8 in ((1 / 2, 5), (1 / 8, 3)):
        cell = of.isel(eta_a=at_8 - int(np.log2(width / 8)), eta_b=3)
        assert (float(cell.eta_a), float(cell.eta_b)) == (scaled / width, 1 / 8)
        curves = anew(width, 2, scaled / width, 1 / 8)
        found = np.stack([cell.train_loss, cell.test_loss], axis=-1)
        np.testing.assert_allclose(found, curves, rtol=2e-4)
        # Control: the same scaled rate at another width's cell.
        other = anew(width, 2, 2 * scaled / width, 1 / 8)
        assert np.abs(other[-1] / curves[-1] - 1).max() > 1e-2


def test_the_planes_diagonal_is_the_line_bit_for_bit(data):
    shared = np.intersect1d(data.eta_a, data.eta_b)
    shared = shared[shared > 0]
    assert shared.tolist() == [2**-5, 2**-4]
    for curve in ("train_loss", "test_loss"):
        plane = [data[curve].sel(eta_a=eta, eta_b=eta) for eta in shared]
        line = [data[f"line_{curve}"].sel(eta=eta) for eta in shared]
        np.testing.assert_array_equal(np.stack(plane), np.stack(line))
        assert not np.array_equal(plane[0], line[1])  # Control.


def test_where_both_rates_are_0_nothing_moves(data):
    still = data.train_loss.sel(eta_a=0, eta_b=0).where(data.ran, drop=False)
    assert (still.isel(step=0) == still).where(data.ran, True).all()
    for moving in ({"eta_a": 2**-5, "eta_b": 0}, {"eta_a": 0, "eta_b": 0.25}):
        one = data.train_loss.sel(moving)
        assert ((one.isel(step=-1) != one.isel(step=0)) | ~data.ran).all()


def test_a_width_with_fewer_seeds_was_not_run_and_has_not_diverged(data):
    assert data.ran.sum("seed").values.tolist() == [6, 6, 4]
    assert data.ran.dtype == bool
    start = data.test_loss.isel(step=0, eta_a=0, eta_b=0)
    np.testing.assert_array_equal(np.isfinite(start), data.ran)  # All that was run begins finite.
    lost = np.isnan(data.test_loss.isel(step=-1)) & data.ran
    assert 0 < lost.mean() < 0.5  # Control: some of what was run has diverged.
    missing = data.sel(n=32, seed=[4, 5])
    for name in ("train_loss", "test_loss", "line_train_loss", "line_test_loss"):
        assert missing[name].isnull().all()


def test_the_first_seeds_are_those_of_one_list(finished, data, tmp_path):
    """Another first seed is the same seed of the list, at the same bits."""
    options = ["first_seed=2", "sweeps.two_layer.widths=[8,16]", "sweeps.two_layer.seeds=[2,2]"]
    cfg = small(*options)
    (part,) = Width().plan(cfg)
    piece = next(p for p in part.pieces.values() if (p.width, p.seed) == (8, 2))
    Width().start(cfg)
    found = Width().run(piece, cfg)
    np.testing.assert_array_equal(found["test_loss"][0], data.test_loss.sel(n=8, seed=2))


@pytest.mark.parametrize("optimizer", ["gd", "adam"])
def test_curvature_is_of_the_first_seeds_in_the_order_of_the_blocks(optimizer, monkeypatch):
    asked = []

    def fake(problem, **options):
        asked.append(options)
        ends = [curvature.Ends(low, low + 3.0, 0.0, 0.0) for low in (-1.0, -2.0, -3.0)]
        return curvature.Curvature(*ends)

    monkeypatch.setattr(curvature, "curvature", fake)
    losses = np.zeros((6 * 10 + 11, 11), np.float32)
    given = sweep.Curves(losses, losses, np.zeros(71))
    monkeypatch.setattr(sweep, "sweep_cells", lambda *a, **kw: given)
    cfg = small(f"sweeps.two_layer.optimizer=[{optimizer}]", "sweeps.two_layer.curvature.seeds=2")
    (part,) = Width().plan(cfg)
    layout = Width().layout(part, cfg)
    for piece in part.pieces.values():
        found = Width().run(piece, cfg)
        layout.fits(found)
        if piece.seed < 2:
            assert found["curvature"].tolist() == [[[-1, 2], [-2, 1], [-3, 0]]]
        else:
            assert np.isnan(found["curvature"]).all()
    assert len(asked) == 3 * 2
    adam = [options["adam"] for options in asked]
    if optimizer == "gd":
        assert adam == [None] * 6
    else:
        scaled = [
            (at.eta_a * n, at.eta_b) for at, n in zip(adam, (8, 8, 16, 16, 32, 32), strict=True)
        ]
        assert scaled == [(1e-4, 1e-4)] * 6
        assert {at.eps for at in adam} == {cfg.adam_eps}


# --- Resumed, refused, kept ---


class StoppedError(Exception):
    """Stands for a killed run."""


def stopped_after(monkeypatch, folder, count):
    """A run that ends after so many pieces; the files of these."""
    put, written = Pieces.put, []

    def put_some(store, name, arrays):
        put(store, name, arrays)
        written.append(store._file(name))
        if len(written) == count:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "put", put_some)
        with pytest.raises(StoppedError):
            run(folder)
    assert not (folder / FILE).exists()
    return written


@pytest.fixture
def trained(monkeypatch):
    """The widths that are trained from here on."""
    ran, train = [], sweep.sweep_cells

    def counted(problem, *arguments, **options):
        ran.append(problem.model.w_out.shape[-1])
        return train(problem, *arguments, **options)

    monkeypatch.setattr(sweep, "sweep_cells", counted)
    return ran


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_bytes(
    undrawn, finished, monkeypatch, trained, tmp_path, capfd
):
    """One of the pieces that it left is damaged meanwhile: that one is computed again."""
    reference = (finished[0] / "results" / FILE).read_bytes()
    files = stopped_after(monkeypatch, tmp_path, 7)
    files[1].write_bytes(files[1].read_bytes()[:-40])
    trained.clear()
    assert run(tmp_path) == reference
    assert trained == [8] + [16] * 5 + [32] * 4
    assert capfd.readouterr().err.count("damaged, computed again") == 1
    assert not list(tmp_path.glob(".*pieces*"))


@pytest.mark.slow
def test_a_width_that_does_not_fit_in_memory_is_halved_and_no_other(
    undrawn, monkeypatch, tmp_path, capsys
):
    train, tried = sweep.sweep_cells, []

    def full(problem, *arguments, policy, **options):
        width = problem.model.w_out.shape[-1]
        tried.append((width, policy.micro_batch))
        if width == 32 and policy.micro_batch > 8:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to")
        return train(problem, *arguments, policy=policy, **options)

    monkeypatch.setattr(sweep, "sweep_cells", full)
    run(tmp_path, small("engine.policy=batch", "engine.batch_bytes=500000"))
    assert list(dict.fromkeys(tried)) == [(8, 69), (16, 34), (32, 17), (32, 8)]
    assert tried.count((32, 17)) == 1  # The seeds that follow begin with the half.
    results = Results.load(tmp_path / FILE)
    assert results.config["engine"] == {
        "policy": "batch", "micro_batch": None, "sample_block": None, "batch_bytes": 500000,
    }  # fmt: skip
    mixed = results.config["smaller"]
    assert {name.split("width=")[1][:2] for name in mixed} == {"32"}
    assert list(mixed.values()) == [{"engine.micro_batch": 8}] * 4
    assert "4 of its pieces did not fit" in capsys.readouterr().err


@pytest.mark.slow
def test_pieces_of_other_versions_are_not_taken_up(
    undrawn, finished, monkeypatch, trained, tmp_path, capfd
):
    stopped_after(monkeypatch, tmp_path, 2)
    versions = origin.library_versions
    monkeypatch.setattr(origin, "library_versions", lambda: versions() | {"numpy": "0.1"})
    trained.clear()
    run(tmp_path)
    assert len(trained) == PIECES
    said = capfd.readouterr().err
    assert "not resumed; delete it to free its space" in said
    assert "numpy" in said
    np.testing.assert_array_equal(
        Results.load(tmp_path / FILE).arrays["test_loss"],
        Results.load(finished[0] / "results" / FILE).arrays["test_loss"],
    )


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("steps=11", "steps"),
        ("first_seed=1", "first_seed"),
        ("times=[2,4,10]", "times"),
        ("adam_eps=1e-8", "adam_eps"),
        ("engine.micro_batch=4", "engine.micro_batch"),
        ("sweeps.two_layer.seeds=[6,6,5]", "sweep.seeds"),
        ("sweeps.two_layer.widths=[8,16,64]", "sweep.widths"),
        ("sweeps.two_layer.log2_a=[-8,-3]", "sweep.log2_a"),
        ("sweeps.two_layer.curvature.eta=1e-3", "sweep.curvature.eta"),
    ],
)
def test_results_of_another_config_in_one_folder_are_refused_by_key(override, key, finished):
    folder = finished[0] / "results"
    with pytest.raises(ResultsError, match=rf"two_layer\.npz: of another config \({key} is"):
        run(folder, small(override))


def test_another_sweep_or_judge_is_the_same_results(undrawn, finished, trained, capsys, tmp_path):
    """Control: what is not of this sweep refuses nothing and trains nothing."""
    shutil.copytree(finished[0] / "results", tmp_path / "results")
    cfg = small("sweeps.layer_sign.seeds=[9,9,9,9,9,9,9]", "decide.quantile=0.6", "replot=true")
    results = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    conduct(Width(), cfg, Folders(tmp_path / "results", tmp_path / "figures"))
    assert trained == []
    assert "60 % quantile" in capsys.readouterr().out
    assert "60 % quantile" in (tmp_path / "figures/width_two_layer.md").read_text()
    # Beside the results nothing is written that a judge decides.
    after = {
        path: path.read_bytes() for path in (tmp_path / "results").rglob("*") if path.is_file()
    }
    assert after == results


def test_every_sweep_of_the_config_has_a_plan_that_can_be_written():
    cfg = small("part=null")
    *sweeps, check = Scaling().plan(cfg)
    Scaling().layout(check, cfg).check()
    assert len(check.pieces) == 1
    for part in sweeps:
        Scaling().layout(part, cfg).check()
        sweep_of = cfg.sweeps[part.name]
        models = np.prod([len(getattr(sweep_of, f)) for f in
                          ("optimizer", "init", "rank", "gamma", "rho")])  # fmt: skip
        assert len(part.pieces) == models * sum(sweep_of.seeds)
        tables = Scaling().tables(part, cfg)
        assert tables["experiments.registry:MODELS"] == [sweep_of.model]
        assert tables["experiments.registry:TASKS"] == ["sine"]


# --- Elsewhere ---


def test_the_data_set_goes_to_netcdf_and_back(finished, tmp_path):
    whole = open_dataset(finished[0] / "results" / FILE)
    whole.to_netcdf(tmp_path / "a.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "a.nc", engine="scipy") as back:
        xarray.testing.assert_equal(whole, back)
        assert back.attrs == whole.attrs
        assert back.test_loss.dtype == np.float32
        assert back.ran.dtype == bool


def test_the_data_set_is_a_table(data):
    table = data[["test_loss", "ran"]].to_dataframe().reset_index()
    assert len(table) == data.test_loss.size
    assert table[~table.ran].test_loss.isna().all()
    row = table[(table.n == 16) & (table.seed == 3) & (table.eta_a == 2**-5)
                & (table.eta_b == 0.5) & (table.step == 10)]  # fmt: skip
    expected = data.test_loss.sel(n=16, seed=3, eta_a=2**-5, eta_b=0.5, step=10)
    assert row.test_loss.item() == expected.item()
