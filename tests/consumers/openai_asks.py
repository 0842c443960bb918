"""OpenAI's own client asks the server at argv[1] (key argv[2]): whole, streamed, models, an error. Prints what it understood."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
messages = [{"role": "user", "content": "when do I see my money?"}]
whole = client.chat.completions.create(
    model="champion", messages=messages, n=2, user="u-9", metadata={"session_id": "s-1"}, temperature=0.2,
    extra_body={"contexts": [{"id": "kb-1", "text": "Refunds take five days."}]},
)  # fmt: skip
stream = client.chat.completions.create(
    model="champion", messages=messages, stream=True, stream_options={"include_usage": True}, user="u-9"
)
chunks = list(stream)
with client.chat.completions.with_streaming_response.create(model="champion", messages=messages) as raw:
    headers = dict(raw.headers)
try:
    client.chat.completions.create(model="gpt-5", messages=messages)
    error = ""
except openai.NotFoundError as e:
    error = e.code
told = {
    "id": whole.id,
    "text": whole.choices[0].message.content,
    "confidence": whole.choices[0].flywheel["confidence"],
    "choices": len(whole.choices),
    "tokens": whole.usage.total_tokens,
    "streamed": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    "stream_tokens": chunks[-1].usage.total_tokens,
    "finish": [c.choices[0].finish_reason for c in chunks if c.choices][-1],
    "models": [m.id for m in client.models.list()],
    "version": headers["x-flywheel-version"],
    "error": error,
}
print(json.dumps(told))
