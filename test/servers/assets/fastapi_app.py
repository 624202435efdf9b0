"""The test endpoints on FastAPI, for uvicorn."""
import asyncio

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/fast")
async def fast():
    return Response("ok")


@app.get("/sleep/{ms}")
async def sleep(ms: int):
    await asyncio.sleep(ms / 1000)
    return Response("ok")


@app.get("/bytes/{n}")
async def some_bytes(n: int):
    return Response(bytes(n))


@app.get("/chunked/{n}")
async def chunked(n: int):
    async def chunks():
        for _ in range(n):
            yield bytes(100)

    return StreamingResponse(chunks())


@app.get("/status/{code}")
async def status(code: int):
    return Response(status_code=code)


@app.post("/upload")
async def upload(request: Request):
    size = 0
    async for block in request.stream():
        size += len(block)
    return Response(str(size))
