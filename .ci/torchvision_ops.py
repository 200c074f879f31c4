"""Test-only: lets the registry's torchvision load beside a CPU build of torch.

Its compiled operators do not load there, and its own registration of `nms` then fails; so the operators are declared
(never implemented) before it is imported. No test uses them.
"""

import importlib.abc
import sys


class _BeforeTorchvision(importlib.abc.MetaPathFinder):
    library = None  # lives as long as the process

    def find_spec(self, name, *_):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            try:
                torch.ops.torchvision.nms  # noqa: B018 - a build that fits has it
            except AttributeError:
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            type(self).library = library
        return


sys.meta_path.insert(0, _BeforeTorchvision())
