"""Writes golden cases as JSON: named inputs, the loss PyTorch finds, and its gradients. Shared by the crates."""

import json

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(1993)

CASES = {}


def pack(tensor):
    kind = "index" if tensor.dtype == torch.int64 else "number"
    return {"kind": kind, "shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}


def case(name, loss, wanted, **inputs):
    """`loss(**inputs)` is recorded with its gradients for the inputs named in `wanted`."""
    live = {k: v.clone().requires_grad_(k in wanted) for k, v in inputs.items()}
    value = loss(**live)
    grads = torch.autograd.grad(value, [live[k] for k in wanted])
    CASES[name] = {
        "inputs": {k: pack(v) for k, v in inputs.items()},
        "value": value.item(),
        "gradients": {k: pack(g) for k, g in zip(wanted, grads)},
    }


def write():
    print(json.dumps(CASES, indent=1).replace("\n     ", " ").replace("\n    ]", " ]"))
