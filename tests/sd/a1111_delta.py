"""What AUTOMATIC1111's WebUI makes of a LoRA file's tensors, written out independently of the package."""

import torch


def a1111_delta(tensors, weight_shape):
    """What AUTOMATIC1111 v1.10.1 adds to a weight at strength 1 (extensions-builtin/Lora), written out again."""

    def has(*names):
        return all(n in tensors for n in names)

    dim = None
    if has("lora_up.weight"):
        up, down = tensors["lora_up.weight"], tensors["lora_down.weight"]
        dim, delta = down.shape[0], up.flatten(1) @ down.flatten(1)
    elif has("hada_w1_a"):
        dim, halves = tensors["hada_w1_b"].shape[0], []
        for i in "12":
            a, b = tensors[f"hada_w{i}_a"], tensors[f"hada_w{i}_b"]
            halves.append(core_product(tensors[f"hada_t{i}"], a, b).flatten(1) if has(f"hada_t{i}") else a @ b)
        delta = halves[0] * halves[1]
    else:
        if has("lokr_w1_b"):
            dim = tensors["lokr_w1_b"].shape[0]
        if has("lokr_w2_b"):
            dim = tensors["lokr_w2_b"].shape[0]
        w1 = tensors["lokr_w1"] if has("lokr_w1") else tensors["lokr_w1_a"] @ tensors["lokr_w1_b"]
        if has("lokr_w2"):
            w2 = tensors["lokr_w2"]
        elif has("lokr_t2"):
            w2 = core_product(tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"])
        else:
            w2 = tensors["lokr_w2_a"] @ tensors["lokr_w2_b"]
        delta = torch.kron(w1[..., None, None] if w2.dim() == 4 else w1, w2)
    scale = tensors["alpha"].item() / dim if dim is not None and has("alpha") else 1.0
    return delta.reshape(weight_shape) * scale


def core_product(core, a, b):
    out = torch.zeros(a.shape[1], b.shape[1], *core.shape[2:])
    for i in range(core.shape[0]):
        for j in range(core.shape[1]):
            out += torch.einsum("p,r,kl->prkl", a[i], b[j], core[i, j])
    return out
