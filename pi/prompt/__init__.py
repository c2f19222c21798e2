"""`pi prompt`: a small agent that shows what a model can do.

`conversation.run` holds a whole conversation; `client.preload` imports the OpenAI SDK while a connection opens.
Events flow from the model (`client`, `chat_completions`, `responses`) through the loop (`agent`), which runs the
tools (`tools`), to a renderer (`render`). `sdk` sends requests, and `transport` carries their HTTP over a pod's
SSH connection.
"""
