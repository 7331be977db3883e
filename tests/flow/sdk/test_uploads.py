"""google-genai's files.upload with nothing set but its base URL: every byte arrives, by way of the data port."""

from __future__ import annotations

import asyncio
import io
import random
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from google import genai
from google.genai.types import File, HttpOptions, UploadFileConfig

from tests.support.rawhttp import Message
from tests.support.running import Running, files_of, serving
from tests.support.uploads import Google

KEY = "AIzaSyntheticKeyOfTheClient0123456789ab"
HELD = "AIzaSyntheticKeyThatIsHeld0123456789abc"
DATA = random.Random(11).randbytes(20_000_000)  # the SDK cuts it into pieces of 8 MiB
PIECES = 3


class Place(NamedTuple):
    wiretape: Running
    google: Google


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("uploads")
    with Google() as google:
        config = f"[upstreams.gemini]\nurl = '{google.url}'\n"
        config += f"[upstreams.held]\nurl = '{google.url}'\ndialect = 'gemini'\nkey_env = 'MY_KEY'\n"
        with serving(folder, config=config, variables={"MY_KEY": HELD}) as wiretape:
            yield Place(wiretape, google)
            wiretape.stop()


def upload(base_url: str) -> File:
    with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)) as client:
        return client.files.upload(file=io.BytesIO(DATA), config=UploadFileConfig(mime_type="video/mp4"))


def upload_async(base_url: str) -> File:
    async def ask() -> File:
        async with genai.Client(api_key=KEY, http_options=HttpOptions(base_url=base_url)).aio as client:
            return await client.files.upload(file=io.BytesIO(DATA), config=UploadFileConfig(mime_type="video/mp4"))

    return asyncio.run(ask())


@pytest.mark.parametrize("ask", [upload, upload_async])
@pytest.mark.parametrize("path", ["gemini", "~project=search/gemini", "held"])
def test_every_byte_arrives(place: Place, path: str, ask: Callable[[str], File]) -> None:
    before = len(place.google.seen)
    file = ask(f"{place.wiretape.url}/{path}")
    assert (file.name, file.size_bytes) == ("files/synthetic", len(DATA))
    seen: list[Message] = place.google.seen[before:]
    assert len(seen) == 1 + PIECES
    assert b"".join(each.body for each in seen[1:]) == DATA
    (target,) = {each.target.partition(b"?")[0] for each in seen}
    assert re.fullmatch(rb"/upload/v1\w*/files", target)
    if path == "held":
        assert [each.all("x-goog-api-key") for each in seen] == [[HELD.encode()]] * len(seen)


def test_it_is_recorded_and_no_key_is(place: Place) -> None:
    before = place.wiretape.metrics()["wiretape_exchanges_stored_total"]
    upload(f"{place.wiretape.url}/gemini")
    place.wiretape.wait_stored(int(before) + 1 + PIECES)
    secrets = (KEY.encode(), HELD.encode(), *[name.encode() for name in place.google.files])
    written = files_of(place.wiretape.home)
    assert written
    assert not [path for path, data in written.items() if any(secret in data for secret in secrets)]
