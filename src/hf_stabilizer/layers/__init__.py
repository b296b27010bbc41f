"""At which depth is this parameter?

    depth 0         embeddings: what stands before the blocks, and tables that all blocks share
    depth 1 .. N    the blocks, in the order in which the data passes through them
    depth N + 1     head: final norm, pooler, classifier

Found by structure (`stacks`: which modules are blocks) and settled by the order of execution
(`flow`: one forward pass on the meta device). No name of a model, a module or a parameter is
known here; an architecture that stays ambiguous is refused with the table as far as it is known.
"""

from hf_stabilizer.layers.layer_map import LayerMap

__all__ = ["LayerMap"]
