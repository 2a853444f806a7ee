# ruff: noqa  # kept as such backends are written
from datetime import datetime
from enum import Enum

from fastapi import APIRouter, Depends, HTTPException
from sqlmodel import Session, select

from auth import get_current_user, verify_user_access
from database import get_db
from models import Task
from schemas import TaskCreate, TaskListResponse, TaskResponse, TaskUpdate

router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"])


class TaskFilter(str, Enum):
    all = "all"
    pending = "pending"
    completed = "completed"


def find_task(db: Session, id: int, user_id: str) -> Task:
    task = db.exec(select(Task).where(Task.id == id, Task.user_id == user_id)).first()
    if task is None:
        raise HTTPException(status_code=404, detail="Task not found")
    return task


@router.get("", response_model=TaskListResponse)
def list_tasks(
    user_id: str,
    filter: TaskFilter = TaskFilter.all,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    query = select(Task).where(Task.user_id == current_user["id"])
    if filter is not TaskFilter.all:
        query = query.where(Task.completed == (filter is TaskFilter.completed))
    tasks = db.exec(query.order_by(Task.created_at.desc())).all()
    return {"data": tasks, "message": "Tasks retrieved"}


@router.post("", response_model=TaskResponse, status_code=201)
def create_task(
    user_id: str,
    body: TaskCreate,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    task = Task(user_id=current_user["id"], title=body.title, description=body.description)
    db.add(task)
    db.commit()
    db.refresh(task)
    return {"data": task, "message": "Task created"}


@router.get("/{id}", response_model=TaskResponse)
def get_task(
    user_id: str,
    id: int,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    return {"data": find_task(db, id, current_user["id"]), "message": "Task retrieved"}


@router.put("/{id}", response_model=TaskResponse)
def update_task(
    user_id: str,
    id: int,
    body: TaskUpdate,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    task = find_task(db, id, current_user["id"])
    for name, value in body.dict(exclude_unset=True).items():
        setattr(task, name, value)
    task.updated_at = datetime.utcnow()
    db.add(task)
    db.commit()
    db.refresh(task)
    return {"data": task, "message": "Task updated"}


@router.delete("/{id}")
def delete_task(
    user_id: str,
    id: int,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    db.delete(find_task(db, id, current_user["id"]))
    db.commit()
    return {"data": None, "message": "Task deleted"}


@router.patch("/{id}/complete", response_model=TaskResponse)
def complete_task(
    user_id: str,
    id: int,
    current_user: dict = Depends(get_current_user),
    db: Session = Depends(get_db),
):
    verify_user_access(user_id, current_user)
    task = find_task(db, id, current_user["id"])
    task.completed = not task.completed
    task.updated_at = datetime.utcnow()
    db.add(task)
    db.commit()
    db.refresh(task)
    message = "Task marked as completed" if task.completed else "Task marked as incomplete"
    return {"data": task, "message": message}
