"""Asks for a joke and prints it as it arrives: `wiretape run -- python examples/joke.py`.

With OPENAI_API_KEY set it asks OpenAI; without one the upstream `demo` answers, which is part of wiretape.
"""

import json
import os
import sys
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

key = os.environ.get("OPENAI_API_KEY")
base_url = os.environ.get("OPENAI_BASE_URL" if key else "DEMO_BASE_URL")
if base_url is None:
    sys.exit("there is no base URL in the environment: run this as `wiretape run -- python examples/joke.py`")

url = urlsplit(base_url)
connection = (HTTPSConnection if url.scheme == "https" else HTTPConnection)(url.netloc)
question = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "Tell me a joke."}],
    "stream": True,
    "stream_options": {"include_usage": True},
}
headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or 'no-key-needed'}"}
connection.request("POST", f"{url.path}/chat/completions", json.dumps(question), headers)
response = connection.getresponse()
if response.status != 200:
    sys.exit(f"{response.status} {response.reason}: {response.read().decode()}")
for line in response:
    data = line.decode().strip().removeprefix("data: ")
    if data and data != "[DONE]":
        for choice in json.loads(data)["choices"]:
            print(choice["delta"].get("content") or "", end="", flush=True)
print()
