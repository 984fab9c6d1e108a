# SPDX-License-Identifier: GPL-2.0
"""Kernels by name: stock kernels and debug kernels.

kernel.get("7.3")           the newest stock kernel of a line in kernels.toml
kernel.get("7.3-debug")     the debug kernel of its source
"""

import cache
import debug_kernel
import stock_kernel


def get(name: str | None = None) -> stock_kernel.Kernel:
    """Return the kernel of that name, by default the newest line's; make what is missing of it."""
    name = name or stock_kernel.DEFAULT
    if not name.endswith(debug_kernel.DEBUG):
        return stock_kernel.get(name)
    stock = name.removesuffix(debug_kernel.DEBUG)  # `-debug` alone: the newest line's
    if stock.endswith(debug_kernel.DEBUG):
        raise cache.Failed(f"{stock} is a debug kernel already")
    return debug_kernel.get(get(stock))
