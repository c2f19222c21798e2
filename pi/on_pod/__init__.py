"""What runs on a pod: plain Python of the standard library (3.8 or newer), sent over stdin for one call.

Nothing here is installed on the pod or keeps running there. Each call is one program: it reads a request,
does its work where the facts are (`/proc`, the log, the port), and sends back events. See `pi.calls` for
the side that sends it.
"""
