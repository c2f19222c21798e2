"""The program that runs on a pod: standard-library Python (3.8 or newer), sent over stdin for one call.

Nothing is installed on the pod or keeps running there. Each call reads a request, works where the facts are
(`/proc`, the log, the port), and sends events. `pi.calls` sends the program.
"""
