"""A model as one file that labels images without this package. Start with ``export_file``, which is ``clouds export``.

``export_request`` checks what is asked for; ``onnx_file`` puts the network between the ends of ``graph_ends``;
``runtimes`` compares the file with PyTorch.
"""
