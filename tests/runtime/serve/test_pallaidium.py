"""The flow of Pallaidium's remote backend, with a client that behaves like its own (utils/remote_backend.py)."""

from urllib.parse import urlencode

from tests.support.serving import Serving


class Client:
    """It sends its key three times: as a bearer, as X-API-Key, and in the address."""

    def __init__(self, server: Serving) -> None:
        self.server = server

    def ask(self, method: str, path: str, **more):
        url = f"{path}?{urlencode({'api_key': self.server.token})}"
        headers = {"Accept": "application/json", "X-API-Key": self.server.token}
        answer = self.server.call(method, url, headers=headers, **more)
        assert answer.status_code < 300, answer.text
        return answer

    def run(self, video: bytes, **payload) -> bytes:
        assert "v0.1" in self.ask("GET", "/v1/health").json()["contract_versions"]
        (model,) = self.ask("GET", "/v1/models").json()["data"]
        assert (model["type"], model["modes"], model["supports_audio_output"]) == ("video", ["control"], True)
        form = {"data": {"purpose": "control"}, "files": {"file": ("strip.mov", video, "video/quicktime")}}
        payload["control_file_id"] = self.ask("POST", "/v1/files", **form).json()["file_id"]
        fixed = {"model": model["id"], "width": 1280, "height": 720, "num_frames": 90, "fps": 24, "strength": 0.5}
        job = self.ask("POST", "/v1/videos", json=fixed | {"prompt": "", "negative_prompt": ""} | payload).json()
        assert job["id"] and job["status"] == "queued"
        while True:
            state = self.ask("GET", f"/v1/jobs/{job['id']}").json()
            assert 0 <= state["progress"] <= 1 and state["phase"]
            if state["status"] == "succeeded":
                return self.ask("GET", f"/v1/files/{state['file_id']}").content
            if state["status"] == "failed":
                raise RuntimeError(f"Job {job['id']} failed: {state.get('error') or 'unknown error'}")
            assert state["status"] in ("queued", "running")  # it knows no others


def test_a_strip_gets_a_sound(server: Serving) -> None:
    assert b"sound.wav" in Client(server).run(b"x" * 5000, seed=7)
    (job,) = server.get("/v1/jobs").json()["data"]
    assert job["options"] == {"seed": 7} and job["label"] == "strip.mov"
    (video,) = [r["name"] for r in job["results"] if r["kind"] == "video"]
    assert video == "video.mp4"  # whatever the strip's container: it is placed as .mp4


def test_a_random_seed_and_a_missing_strip(server: Serving) -> None:
    assert Client(server).run(b"x", seed=-1)
    answer = server.post("/v1/videos", json={"prompt": "rain", "seed": 1})
    assert answer.status_code == 422 and "select a movie strip" in answer.json()["detail"]


def test_a_failure_is_one_it_knows(server: Serving) -> None:
    job = server.post("/v1/videos", json={"control_file_id": server.upload(), "seed": 904}).json()["id"]
    server.post(f"/v1/jobs/{job}/cancel")
    assert server.wait(job)["status"] == "failed"
