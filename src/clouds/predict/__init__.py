"""Images in, labels out. Start with ``predictor``; ``predict_files`` is ``clouds predict``, for folders and videos."""
