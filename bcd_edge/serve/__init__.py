"""A server on a folder of results: an HTTP API, the Open Inference Protocol, and pages for reviewing.

`app.create` puts the parts together; each part has a function `routes`. A route says who may use it: see `auth`. What is read
and written goes through `store`, pictures to be answered through `engine`, which commits like a watcher beside it.
"""
