"""The service's routes: right answers, clear refusals, batches, the queue's bounds, tokens, metrics."""

import base64
import io
import socket
import threading
import time
import zlib
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from clouds.cli import run
from clouds.config.label_sets import NAMES
from clouds.deploy.serve.app import make_app
from clouds.deploy.serve.batching import Batcher, Served, Warmth, served
from clouds.deploy.serve.limits import Refused, Room, Service
from clouds.deploy.serve.server import names_of
from clouds.errors import UsageError
from serving import RGB, encoded, sleeper

PNG = {"Content-Type": "image/png"}


def opened(models: list[Served], **limits) -> TestClient:
    """A client of a warm server; to be used in ``with``."""
    warmth = Warmth()
    client = TestClient(make_app(models, Service(**limits), warmth), raise_server_exceptions=False)
    client.warmth = warmth
    return client


def warm(client: TestClient) -> TestClient:
    end = time.monotonic() + 20
    while client.get("/ready").status_code != 200 and time.monotonic() < end:
        time.sleep(0.01)
    return client


@pytest.fixture(scope="module")
def client(any_predictor):
    with opened([served("small", any_predictor), sleeper()]) as found:
        yield warm(found)


@pytest.fixture(scope="module")
def small():
    """Tight limits, a model that answers at once."""
    with opened([sleeper()], max_bytes=20_000, max_pixels=10_000, token="secret") as found:
        end = time.monotonic() + 20
        while found.get("/ready").status_code != 200 and time.monotonic() < end:
            time.sleep(0.01)
        found.headers["Authorization"] = "Bearer secret"
        yield found


def pixels_of(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def problem(answer, status: int, error: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["error"] == error
    return body["detail"]


# -- right answers


def test_labels_overlay_and_maps_are_those_of_predict(client, any_predictor):
    expected = any_predictor.predict(RGB)
    labels = client.post("/v1/segment?format=labels", content=encoded(), headers=PNG)
    assert labels.headers["content-type"] == "image/png"
    assert np.array_equal(pixels_of(labels.content), expected.labels)
    assert len(np.unique(expected.labels)) > 1
    overlay = client.post("/v1/segment?format=overlay&opacity=0.3", content=encoded(), headers=PNG)
    assert np.array_equal(pixels_of(overlay.content), expected.overlay(0.3))
    found = client.post("/v1/segment?maps=true", content=encoded(), headers=PNG).json()
    maps = {name: pixels_of(base64.b64decode(text)) for name, text in found["maps"].items()}
    assert np.array_equal(maps["labels"], expected.labels)
    assert np.array_equal(maps["confidence"], (expected.scores * 255).round())


def test_json_tells_shares_and_confidence(client, any_predictor):
    expected = any_predictor.predict(RGB)
    found = client.post("/v1/segment", content=encoded(), headers=PNG).json()
    assert "maps" not in found
    assert (found["model"], found["width"], found["height"], found["batch"]) == ("small", 80, 48, 1)
    assert [each["name"] for each in found["classes"]] == list(NAMES)
    assert sum(each["share"] for each in found["classes"]) == pytest.approx(1, abs=1e-4)
    assert found["confidence"] == pytest.approx(expected.scores.mean(), abs=1e-3)
    for each in found["classes"]:
        where = expected.labels == each["id"]
        assert each["share"] == pytest.approx(where.mean(), abs=1e-5)
        if where.any():
            assert each["confidence"] == pytest.approx(expected.scores[where].mean(), abs=1e-3)
        else:
            assert each["confidence"] is None
    assert found["ms"]["model"] > 0


def test_a_form_is_as_good_as_a_body(client):
    whole = client.post("/v1/segment?format=labels", content=encoded(), headers=PNG)
    form = {"image": ("../../etc/passwd", encoded(), "text/plain"), "note": ("x", b"of no use")}
    assert client.post("/v1/segment?format=labels", files=form).content == whole.content
    assert client.post("/v1/segment?format=labels", files={"file": encoded()}).content == whole.content


def test_the_example_is_a_street_for_models_that_know_streets(client, small):
    example = client.get("/example.jpg")
    assert example.headers["content-type"] == "image/jpeg"
    assert client.post("/v1/segment", content=example.content, headers={"Content-Type": "image/jpeg"}).is_success
    assert 'id="example"' in client.get("/").text
    own = replace(sleeper(), classes=("soil", "crop"), colors=((120, 80, 40), (0, 160, 0)))
    with opened([own]) as fields:
        assert 'id="example"' not in fields.get("/").text
        assert "one of 2 classes" in fields.get("/").text


def test_a_large_overlay_is_mixed_in_blocks(client):
    tall = np.resize(RGB, (700, 30, 3))
    answer = client.post("/v1/segment?format=overlay&model=sleeper", content=encoded(tall), headers=PNG)
    expected = sleeper().segment([tall])[0].overlay()
    assert np.array_equal(pixels_of(answer.content), expected)


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [("", "*/*", "application/json"), ("", "image/png", "image/png"), ("", "application/json", "application/json"),
     ("?format=json", "image/png", "application/json"), ("?format=labels", "application/json", "image/png"),
     ("", "image/png, application/json", "application/json"), ("", "application/json;q=0.5, image/png", "image/png"),
     ("", "image/png;q=0.2, application/json;q=0.9", "application/json"), ("", "IMAGE/*", "image/png"),
     ("", "application/*;q=0, */*;q=0.1", "image/png"), ("", "text/html, image/png;q=x", "application/json"),
     ("", "", "application/json")],
)  # fmt: skip
def test_the_query_decides_then_accept(client, query, accept, kind):
    answer = client.post(f"/v1/segment{query}", content=encoded(), headers={**PNG, "Accept": accept})
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_second_model_is_asked_by_name(client):
    found = client.post("/v1/segment?model=sleeper", content=encoded(), headers=PNG).json()
    assert [each["name"] for each in found["classes"]] == ["dark", "red"]
    problem(client.post("/v1/segment?model=other", content=encoded(), headers=PNG), 404, "unknown_model")
    names = client.get("/v1/classes").json()
    assert [each["name"] for each in names["models"]] == ["small", "sleeper"]
    assert names["models"][0]["classes"][13] == {"id": 13, "name": "car", "color": "#00008e"}
    assert names["max_pixels"] == 16_000_000


def test_metrics_count_what_happened(client):
    def read() -> dict[str, float]:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = read()
    client.post("/v1/segment", content=encoded(), headers=PNG)
    client.post("/v1/segment", content=b"", headers=PNG)
    client.request("FROB", "/a/path/of/the/client")
    client.head("/health")
    after = read()

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grew('clouds_requests_total{code="200",method="POST",route="/v1/segment"}') == 1
    assert grew('clouds_refused_total{error="empty"}') == 1
    assert grew('clouds_requests_total{code="404",method="other",route="other"}') == 1
    assert grew('clouds_requests_total{code="200",method="HEAD",route="/health"}') == 1
    assert grew('clouds_images_total{model="small"}') == 1
    assert after["clouds_queue_images"] == after["clouds_queue_pixels"] == after["clouds_upload_bytes"] == 0


def test_the_document_and_the_page_fetch_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    api = client.get("/docs")
    assert "default-src 'none'" in api.headers["content-security-policy"]
    for path in ("/v1/segment", "/v1/classes", "/health", "/ready", "/metrics"):
        assert f" {path}</code>" in api.text
    assert "<script" not in api.text
    assert "8-bit grey, 0..255 for 0..1." in api.text  # of a field of an answer
    for text in (page.text, api.text, client.get("/openapi.json").text):
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


# -- refusals


def png_of(width: int, height: int) -> bytes:
    """A whole PNG of black pixels; a strip packs into next to nothing."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"
    packed = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "headers", "status", "error"),
    [
        (b"", PNG, 400, "empty"),
        (encoded()[:100], PNG, 400, "undecodable"),
        (encoded(kind="GIF"), {"Content-Type": "image/gif"}, 415, "unsupported_type"),
        (encoded(), {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported_type"),
        (encoded(), {}, 415, "unsupported_type"),
        (encoded(np.zeros((101, 100, 3), np.uint8)), PNG, 413, "too_many_pixels"),
        (bytes(20_001), PNG, 413, "too_large"),
        (png_of(10_000, 1), PNG, 413, "too_long"),
        (png_of(1, 101), PNG, 413, "too_long"),
        (png_of(5_000, 2), PNG, 413, "too_long"),
        (png_of(16_000_000, 1), PNG, 413, "too_many_pixels"),
        (b"x", {"Content-Type": "multipart/form-data"}, 400, "bad_form"),
        (b"x", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "bad_form"),
        (b"--b\r\n\r\n--b--", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "bad_form"),
    ],
)
def test_bad_uploads_are_refused_with_a_reason(small, content, headers, status, error):
    assert problem(small.post("/v1/segment", content=content, headers=headers), status, error)


def test_a_body_without_length_is_held_to_the_limit(small):
    answer = small.post("/v1/segment", content=iter([bytes(5000)] * 5), headers=PNG)
    assert problem(answer, 413, "too_large")


def test_a_form_needs_one_image(small):
    tiny = encoded(RGB[:9])
    two = [("image", tiny), ("image", tiny)]
    for files in ({"picture": tiny}, two, {"image": tiny, "file": tiny}, [("x", b"")] * 17):
        problem(small.post("/v1/segment", files=files), 400, "bad_form")


@pytest.mark.parametrize("query", ["format=gif", "opacity=2", "opacity=nan", "maps=2x", "colour=red"])
def test_bad_parameters_are_named(small, query):
    detail = problem(small.post(f"/v1/segment?{query}", content=encoded(), headers=PNG), 422, "bad_parameter")
    assert query.partition("=")[0] in detail


def test_other_paths_and_methods_are_answered_in_json(small):
    problem(small.get("/v1/nothing"), 404, "not_found")
    problem(small.get("/v1/segment"), 405, "method_not_allowed")
    problem(small.get("/../../etc/passwd"), 404, "not_found")


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/v1/classes", "/openapi.json"])
def test_head_answers_as_get_without_a_body(client, path):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert "content-length" in head.headers
    problem(client.get("/v1/segment"), 405, "method_not_allowed")
    assert client.head("/v1/segment").status_code == 405


def test_pages_of_other_origins_ask_where_they_are_let(model_folder):
    ours, other = {"Origin": "https://ours.org"}, {"Origin": "https://other.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with TestClient(make_app([sleeper()], Service(cors=("https://ours.org",)))) as client:
        assert client.get("/health", headers=ours).headers["access-control-allow-origin"] == "https://ours.org"
        assert client.options("/v1/segment", headers={**ours, **asked}).status_code == 200
        assert "access-control-allow-origin" not in client.get("/health", headers=other).headers
        refused = client.post("/v1/segment", content=b"", headers={**ours, **PNG})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (400, "https://ours.org")
    with TestClient(make_app([sleeper()], Service())) as client:
        assert "access-control-allow-origin" not in client.get("/health", headers=ours).headers
    with pytest.raises(UsageError, match=r"cors: got 'ours\.org/page'; expected an origin such as"):
        Service(cors=("ours.org/page",))


def test_a_token_is_asked_for(small):
    for given in ({"Authorization": ""}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"},
                  {"Authorization": b"Bearer s\xe9cret"}):  # fmt: skip
        for method, path in (("POST", "/v1/segment"), ("GET", "/v1/classes"), ("GET", "/metrics")):
            answer = small.request(method, path, headers={**given, **PNG})
            problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/health", "/ready", "/"):
        assert small.get(path, headers={"Authorization": ""}).status_code == 200
    assert small.post("/v1/segment", content=encoded(), headers=PNG).status_code == 200


def test_nothing_is_taken_before_the_model_is_warm():
    gate = threading.Event()
    slow = Served("slow", ("a",), ((0, 0, 0),), lambda images: gate.wait(20) and sleeper().segment(images), len)
    with opened([slow]) as client:
        assert client.get("/health").status_code == 200
        problem(client.get("/ready"), 503, "starting")
        answer = client.post("/v1/segment", content=encoded(), headers=PNG)
        problem(answer, 503, "starting")
        assert answer.headers["retry-after"] == "1"
        gate.set()
        assert warm(client).get("/ready").json() == {"status": "ready"}
        client.warmth.stop()
        problem(client.get("/ready"), 503, "stopping")
        assert client.post("/v1/segment", content=encoded(), headers=PNG).status_code == 200


def test_a_model_that_fails_is_an_answer_and_not_the_end():
    def segment(images):
        if images[0].shape[0] == 48:
            raise RuntimeError("out of memory")
        return sleeper().segment(images)

    with opened([Served("m", ("a", "b"), ((0, 0, 0),) * 2, segment, lambda image: image.shape)]) as client:
        detail = problem(warm(client).post("/v1/segment", content=encoded(), headers=PNG), 500, "failed")
        assert "RuntimeError" in detail
        assert client.post("/v1/segment", content=encoded(RGB[:20]), headers=PNG).status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_model_thread_is_said_at_once_everywhere():
    def segment(images):
        time.sleep(0.3)
        if images[0].shape[0] == 48:
            raise SystemExit  # ends the thread, as no error of a model does
        return sleeper().segment(images)

    with opened([Served("m", ("a", "b"), ((0, 0, 0),) * 2, segment, lambda image: image.shape)], batch=1) as client:
        warm(client)
        with ThreadPoolExecutor(3) as pool:  # one is computed, the others wait
            began = time.monotonic()
            for answer in pool.map(lambda _: client.post("/v1/segment", content=encoded(), headers=PNG), range(3)):
                problem(answer, 503, "dead")
        problem(client.post("/v1/segment", content=encoded(RGB[:20]), headers=PNG), 503, "dead")
        assert time.monotonic() - began < 5
        for path in ("/ready", "/health"):
            problem(client.get(path), 503, "dead")


def test_a_model_that_gives_too_few_results_is_an_answer():
    with opened([Served("m", ("a",), ((0, 0, 0),), lambda images: images[:0], lambda image: 0)]) as client:
        client.warmth.status = "ready"
        problem(client.post("/v1/segment", content=encoded(), headers=PNG), 500, "failed")


@pytest.mark.parametrize("path", ["/health/", "/v1/classes/", "/metrics/"])
def test_no_answer_repeats_the_host_that_a_client_named(small, path):
    answer = small.get(path, headers={"Host": "evil.example"}, follow_redirects=False)
    problem(answer, 404, "not_found")
    assert "evil" not in str(answer.headers) + answer.text


def test_the_document_says_what_an_upload_and_a_refusal_are(small):
    document = small.get("/openapi.json").json()
    body = document["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
    assert body["image/png"]["schema"]["minLength"] == 1
    assert body["multipart/form-data"]["schema"]["properties"]["image"]["minLength"] == 1
    with opened([sleeper()], token="secret") as client:
        answers = client.get("/openapi.json").json()["paths"]["/metrics"]["get"]["responses"]
        assert list(answers["401"]["content"]) == ["application/json"]
        assert list(answers["200"]["content"]) == ["text/plain"]


def test_a_late_answer_is_504_and_its_image_is_dropped():
    seen: list[int] = []
    with opened([sleeper(0.6, seen)], timeout=0.2, batch=1) as client:
        problem(warm(client).post("/v1/segment", content=encoded(), headers=PNG), 504, "timeout")
        problem(client.post("/v1/segment", content=encoded(), headers=PNG), 504, "timeout")  # waited, never computed
        time.sleep(1)
        assert seen == [1, 1]  # of the warm-up, of the first
        assert "clouds_queue_images 0.0" in client.get("/metrics").text


def test_a_full_queue_says_when_to_come_back():
    with opened([sleeper(0.3)], queue=2, batch=1) as client:
        warm(client)
        answers: list = []

        def post() -> None:
            answers.append(client.post("/v1/segment", content=encoded(), headers=PNG))

        threads = [threading.Thread(target=post) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * 3 + [503] * 5
        for answer in answers:
            if answer.status_code == 503:
                problem(answer, 503, "busy")
                assert 1 <= int(answer.headers["retry-after"]) <= 60


# -- parts


def test_images_that_fit_together_go_together_and_the_oldest_first():
    seen: list[tuple[int, ...]] = []
    gate = threading.Event()

    def segment(images):
        gate.wait(20)
        seen.append(tuple(image.shape[0] for image in images))
        return sleeper().segment(images)

    model = Served("m", ("a", "b"), ((0, 0, 0),) * 2, segment, len)
    batcher = Batcher(3)
    batcher.start()
    first = batcher.submit(model, RGB[:1])
    while not first.running():
        time.sleep(0.001)
    futures = [batcher.submit(model, RGB[:size]) for size in (5, 7, 5, 5, 5, 7)]
    futures[2].cancel()
    gate.set()
    for i, future in enumerate(futures):
        if i != 2:
            assert len(future.result(20).result.labels) == (5, 7, 5, 5, 5, 7)[i]
    assert seen == [(1,), (5, 5, 5), (7, 7)]
    assert futures[0].result().batch == 3
    batcher.close(10)
    assert not batcher.alive
    with pytest.raises(CancelledError):
        batcher.submit(model, RGB).result(1)


def test_one_bad_image_does_not_cost_its_batch():
    def segment(images):
        if any(image[0, 0, 0] == 255 for image in images):
            raise ValueError("bad")
        return sleeper().segment(images)

    model = Served("m", ("a", "b"), ((0, 0, 0),) * 2, segment, lambda image: image.shape)
    batcher = Batcher(4)
    images = [np.full((4, 4, 3), value, np.uint8) for value in (0, 255, 9)]
    futures = [batcher.submit(model, image) for image in images]
    batcher.start()
    assert [future.exception(20) is None for future in futures] == [True, False, True]
    batcher.close(10)


def test_room_is_bounded_by_images_and_by_pixels():
    room = Room(Service(queue=2, batch=1, max_pixels=100))
    with room.image(300):
        with pytest.raises(Refused) as caught, room.image(101):
            pass
        assert caught.value.status == 503
        with room.image(100), room.image(0), pytest.raises(Refused), room.image(0):
            pass
    assert (room.images, room.pixels) == (0, 0)


def test_limits_that_cannot_be_are_named_together():
    with pytest.raises(UsageError) as caught:
        Service(queue=-1, batch=0, timeout=0, token="", port=70_000, threads=0, max_pixels=0)
    assert all(word in str(caught.value) for word in ("queue", "batch", "timeout", "token", "port", "threads", "max_p"))
    assert "geheim" not in repr(Service(token="geheim"))


def test_models_are_named_by_their_folders(tmp_path):
    assert names_of([tmp_path / "runs" / "demo" / "model"]) == ["demo"]
    assert names_of([tmp_path / "demo", tmp_path / "demo" / "warmup"]) == ["demo", "warmup"]
    assert names_of([tmp_path / "a" / "warmup", tmp_path / "b" / "warmup"]) == ["a-warmup", "b-warmup"]
    with pytest.raises(UsageError, match="the same name"):
        names_of([tmp_path, tmp_path])


# -- the command


def outcome(capsys, *words: object) -> tuple[int, str]:
    code = run([str(word) for word in words])
    return code, capsys.readouterr().err


def test_the_command_finds_what_is_wrong_before_it_serves(capsys, tmp_path, model_folder):
    code, err = outcome(capsys, "serve", tmp_path, "--port", 0)
    assert code == 1
    assert "config.json" in err
    code, err = outcome(capsys, "serve", model_folder, "--queue", -1)
    assert code == 2
    assert "queue: got -1" in err
    code, err = outcome(capsys, "serve", model_folder, model_folder, model_folder)
    assert code == 2
    assert "two to be compared" in err
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, err = outcome(capsys, "serve", model_folder, "--port", other.getsockname()[1])
    assert code == 2
    assert "another --port" in err


def test_a_model_that_cannot_be_run_ends_the_server(capsys, model_folder, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr("clouds.predict.predictor.Predictor.predict_batch", broken)
    code, err = outcome(capsys, "serve", model_folder, "--port", 0)
    assert (code, err) == (1, "clouds: the model cannot be run (no kernel for this device)\n")


def test_without_the_extra_it_says_what_to_install(capsys, monkeypatch, model_folder):
    import clouds.deploy.serve as package

    monkeypatch.setattr(package, "find_spec", lambda name: None if name in ("fastapi", "python_multipart") else 1)
    code, err = outcome(capsys, "serve", model_folder)
    assert (code, err) == (1, "clouds: clouds serve needs fastapi, python-multipart; pip install 'clouds[serve]'\n")
