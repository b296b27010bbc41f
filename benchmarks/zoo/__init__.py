"""Tiny random instances of all model classes of transformers, and what a forward pass shows.

targets         which classes are there, and to which family do they belong?
shrinking       what is the same architecture with tiny sizes?
base_configs    from which configuration does that start, where the default does not do?
building        a class -> a model with real weights, or why there is none
inputs          with what can it be run?
trace           which blocks has the data passed when it meets a parameter?
observation     the trace of a model, run whole or in parts
oracle          which depths does that imply? The judge of a layer map
naive_patterns  what people write by hand instead
verdicts        the verdict on one class
workers         the verdicts on many
results         files, counts and a chart
"""
