"""Numbers for the operator: counted in the workers, merged and served by a process of their own.

``meters`` is what there is to count, ``folder`` where the workers keep it, ``process`` serves it over HTTP.
"""
