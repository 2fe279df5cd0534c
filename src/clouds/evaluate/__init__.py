"""How well models do on domains: scores with intervals, tables, examples.

``scores`` has the protocol, start there; ``metrics`` the numbers; ``run`` scores a run,
``compare_models`` several models.
"""
