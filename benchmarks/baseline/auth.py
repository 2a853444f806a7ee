# ruff: noqa  # kept as such backends are written
import os

from fastapi import HTTPException, Request
from jose import JWTError, jwt


async def get_current_user(request: Request):
    auth_header = request.headers.get("Authorization")
    if not auth_header or not auth_header.startswith("Bearer "):
        raise HTTPException(status_code=401, detail="Missing token")

    token = auth_header.split(" ")[1]
    try:
        payload = jwt.decode(token, os.getenv("BETTER_AUTH_SECRET"), algorithms=["HS256"])
        return {"id": payload["sub"], "email": payload.get("email")}
    except JWTError:
        raise HTTPException(status_code=401, detail="Invalid token")


def verify_user_access(user_id: str, current_user: dict):
    if user_id != current_user["id"]:
        raise HTTPException(status_code=403, detail="Access denied")
