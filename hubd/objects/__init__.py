"""Object stores: how a bucket is reached, what is shown to it, and what is done to it through obstore.

Law: everything that decides is stated here: no environment, no role of the machine and no redirect names an endpoint.
"""
