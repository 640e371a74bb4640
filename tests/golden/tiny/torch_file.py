#!/usr/bin/env python3
"""Writes tensor.pt: the archive that torch.save makes of torch.arange(12.).reshape(4, 3), after the format's description,
without torch (stored zip entries; a protocol 2 pickle whose storage is a persistent id)."""

import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

torch = types.ModuleType("torch")
utils = types.ModuleType("torch._utils")
exec("class FloatStorage: pass", torch.__dict__)
exec("def _rebuild_tensor_v2(*arguments): pass", utils.__dict__)
torch.FloatStorage.__module__, torch._utils = "torch", utils
utils._rebuild_tensor_v2.__module__ = "torch._utils"
sys.modules.update({"torch": torch, "torch._utils": utils})


class Storage:
    pass


class Tensor:
    def __reduce__(self):
        return utils._rebuild_tensor_v2, (Storage(), 0, (4, 3), (3, 1), False, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", 12) if isinstance(value, Storage) else None


data = io.BytesIO()
Pickler(data, protocol=2).dump(Tensor())
with zipfile.ZipFile(Path(__file__).parent / "tensor.pt", "w", zipfile.ZIP_STORED) as archive:
    for name, content in (("data.pkl", data.getvalue()), ("byteorder", b"little"), ("data/0", struct.pack("<12f", *range(12))), ("version", b"3\n")):
        archive.writestr(zipfile.ZipInfo(f"tensor/{name}", (1980, 1, 1, 0, 0, 0)), content)
