"""The four roles that foundation models play; nothing outside this folder loads one.

A door a role - ``backbone``, ``writer``, ``generator``, ``restyler``, ``segmenter`` - has its protocol and makes what a
name means. A folder beside each door has the backends, and ``registry`` all that is known of them.
"""
