"""`taco doctor`: what would stop a run, found before it starts. Nothing is changed or downloaded.

findings    what a check says
packages    Python and what is installed, against what the project asks for
machine     torch, GPU, memory, disk
inputs      data, metric, length tokenizer, compressor
services    the teacher and its store
probes      what may hang, crash or take memory: in processes of their own
command     all of them side by side, each within its time
"""
