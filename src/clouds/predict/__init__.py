"""Images in, labels out. Start with ``predictor``; ``predict_files`` is ``clouds predict``, for folders and videos.

``loading`` has ``clouds.load``; ``exported`` does with a file and its runtime what ``predictor`` does with torch.
"""
