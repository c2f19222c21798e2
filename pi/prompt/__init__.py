"""`pi prompt`: a small agent that shows what a model can do.

`run` is all of it behind one call; `preload` begins to import the OpenAI SDK while a connection is opened.
Events flow from the model (`client`, `chat_completions`, `responses`) through the loop (`agent`), with the
tools (`tools`) between, to a renderer (`render`). `transport` carries the SDK's HTTP over a pod's SSH connection.
"""
