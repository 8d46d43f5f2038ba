"""What a user with h5py and pandas does with a store. Modes:
  tables PATH     every dataset becomes a table with one line of pandas
  watch PATH      open the store again and again until every row is committed
  checkpoint PATH read the tensors of a checkpoint through its index
  plain PATH      every dataset, attribute and committed row is to read_plain.py, which needs no h5py, what it is to h5py
Exit code 77: h5py or pandas is not installed."""
import sys
import time

try:
    import h5py
    import numpy
    import pandas
except ImportError as missing:
    print(missing)
    sys.exit(77)

import read_plain


def described(file):
    for name, dataset in file.items():
        assert dataset.attrs["description"], name
        units = dataset.attrs["units"].decode()
        assert units, name
        for member in dataset.dtype.names or ():
            assert any(line.startswith(member + ": ") for line in units.split("\n")), (name, member)
        assert dataset.chunks is None and dataset.compression is None, name


def tables(path):
    with h5py.File(path, "r") as file:
        described(file)
        assert sorted(file) == ["config", "curves", "directory", "execution", "point_checksums", "points", "points_copy",
                                "provenance", "results", "state"]
        assert file.attrs["shard"] == b"" and file.attrs["made_by"] == b"run" and file["provenance"][()] == b""
        assert file.attrs["version"] == 3 and file.attrs["epoch"] == 1
        assert file["config"][()].decode().startswith("# the sweep file")
        points = pandas.DataFrame(file["points"][:])
        results = pandas.DataFrame(file["results"][:])
        execution = pandas.DataFrame(file["execution"][:])
        state = pandas.DataFrame(file["state"][:])
        losses = pandas.DataFrame(file["curves"][:]["entries"]["valid_loss"])
        curve = pandas.DataFrame(file["curves"][4]["entries"])
        assert file["results"].dtype.itemsize == 4096 and file["results"].id.get_offset() % 4096 == 0
        assert file["curves"].dtype.itemsize % 4096 == 0 and file["curves"].id.get_offset() % 4096 == 0
    assert [len(table) for table in (points, results, execution, state, losses)] == [6] * 5
    table = points.join(results, rsuffix="_result").query("committed == 1")
    assert list(table.index) == [1, 4]
    assert (table.identity == table.identity_result).all()
    assert list(table.method) == [b"lora", b"full"] and list(table.status) == [2, 3]
    assert list(table.steps) == [10, 40] and table.valid_loss[1] == 1.0 and numpy.isnan(table.test_loss[4])
    assert table.bleu[1] == 26.5 and numpy.isnan(table.rouge1[4]) and list(table.beams) == [4, 4]
    assert execution.host[1] == b"node1" and execution.attempt[4] == 2 and execution.started[4] == 1.5e9 + 4
    assert state.status[5] == 5 and state.message[5] == b"signal 11"
    assert losses.shape == (6, 64) and losses[0][1] == 2 and curve.step[2] == 3 and curve.step[3] == 0
    print(table[["method", "steps", "valid_loss", "test_loss"]])


def watch(path):
    rounds, end = 0, time.monotonic() + 120
    while time.monotonic() < end:
        with h5py.File(path, "r") as file:
            results = file["results"][:]
        for row in numpy.flatnonzero(results["committed"]):
            assert results["steps"][row] == row * 10 and results["valid_loss"][row] == 2 / (row + 1), row
        rounds += 1
        if results["committed"].all():
            print("read", rounds, "times")
            return
    sys.exit("rows are missing after two minutes")


def checkpoint(path):
    with h5py.File(path, "r") as file:
        described(file)
        header = file["header"][0]
        assert header["step"] == 40 and header["finished"] == 1
        assert pandas.DataFrame(file["curve"][:]).step[1] == 7
        tensors = {}
        for entry in file["index"][:]:
            values = file["data"][entry["offset"] : entry["offset"] + entry["rows"] * entry["columns"]]
            tensors[entry["name"].decode()] = values.reshape(entry["rows"], entry["columns"])
    assert list(tensors) == sorted(tensors) == ["moment1/wq", "value/embedding", "value/norm", "value/wq"]
    embedding = tensors["value/embedding"]
    assert embedding.shape == (33, 7) and embedding[20, 4] == 3000 + 200 + 0.25


def same(ours, theirs):
    """A value of read_plain.py and one of h5py; NaN is NaN."""
    if isinstance(theirs, bytes):
        theirs = theirs.decode()
    return ours == theirs or ours != ours and theirs != theirs


def plain(path):
    kind, attributes, parts = read_plain.datasets(path)
    with h5py.File(path, "r") as file:
        assert file.attrs["format"].decode() == kind and file.attrs["version"] == (3 if kind == "tunelaw store" else 2)
        theirs = {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in file.attrs.items()}
        assert attributes == {name: value for name, value in theirs.items() if name not in ("format", "version")}
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(found) == sorted(parts)
        for name, (element, width, rows, data) in parts.items():
            dataset = file[name]
            assert dataset.dtype.itemsize == width and dataset.size == rows and dataset[()].tobytes() == data, name
            assert element == ("record" if dataset.dtype.names else {"V": "text", "S": "text"}.get(dataset.dtype.kind, dataset.dtype.str[1:])), name
        count = 0
        for i, point, result, curve in read_plain.rows(path) if kind == "tunelaw store" else ():
            for ours, row in ((point, file["points"][i]), (result, file["results"][i])):
                assert all(same(value, row[name].item()) for name, value in ours.items()), (i, ours)
            assert file["results"][i]["committed"] == 1 and len(curve) == file["curves"][i]["count"] > 0
            for ours, entry in zip(curve, file["curves"][i]["entries"]):
                assert all(ours[name] == entry[name] for name in entry.dtype.names), (i, ours)
            count += 1
        if kind == "tunelaw store":
            assert count == file["results"]["committed"].sum() > 0
    print(kind, len(parts), "datasets,", count, "rows")


{"tables": tables, "watch": watch, "checkpoint": checkpoint, "plain": plain}[sys.argv[1]](sys.argv[2])
