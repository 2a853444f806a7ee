"""People who use the API: each has a name of their own, a token, and a way to say what they want."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import httpx
import jwt

SECRET = "a-test-secret-of-more-than-thirty-two-bytes"


def token_for(user_id: str, secret: str = SECRET, **claims: Any) -> str:
    return jwt.encode(
        {"sub": user_id, "exp": int(time.time()) + 600, **claims}, secret, algorithm="HS256"
    )


class Person:
    """A `path` is relative to the tasks, as in `ada.get("/7")`; a `url` is not: `ada.request("GET",
    "/health")`."""

    def __init__(self, base_url: str, name: str) -> None:
        self.id = f"{name}-{uuid4().hex[:12]}"  # nobody else's in this database
        self.token = token_for(self.id)
        self.tasks = f"/api/{self.id}/tasks"
        self.client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=20,
            verify=False,
        )

    def request(self, method: str, url: str, **rest: Any) -> httpx.Response:
        return self.client.request(method, url, **rest)

    def get(self, path: str = "", **rest: Any) -> httpx.Response:
        return self.client.get(self.tasks + path, **rest)

    def post(self, body: Any, **rest: Any) -> httpx.Response:
        return self.client.post(self.tasks, json=body, **rest)

    def put(self, task_id: Any, body: Any, **rest: Any) -> httpx.Response:
        return self.client.put(f"{self.tasks}/{task_id}", json=body, **rest)

    def patch(self, path: str, **rest: Any) -> httpx.Response:
        return self.client.patch(self.tasks + path, **rest)

    def delete(self, task_id: Any, **rest: Any) -> httpx.Response:
        return self.client.delete(f"{self.tasks}/{task_id}", **rest)

    def has(self, title: str, description: str | None = None) -> dict[str, Any]:
        """A task of this person's, newly created."""
        reply = self.post({"title": title, "description": description})
        assert reply.status_code == 201, reply.text
        task: dict[str, Any] = reply.json()["data"]
        return task

    def has_task(self, title: str, **fields: Any) -> dict[str, Any]:
        """The same, with any of its fields."""
        return self._made("/v1/tasks", {"title": title, **fields})

    def has_list(self, name: str, **fields: Any) -> dict[str, Any]:
        return self._made("/v1/lists", {"name": name, **fields})

    def _made(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = self.request("POST", url, json=body)
        assert reply.status_code == 201, reply.text
        made: dict[str, Any] = reply.json()["data"]
        return made
