"""Demo service: a few endpoints with different speeds and one that fails now and then."""
import asyncio
import random

from fastapi import FastAPI, HTTPException

app = FastAPI()


@app.get("/items/{item}")
async def get_item(item: int):
    await asyncio.sleep(random.expovariate(1 / 0.005))
    return {"item": item}


@app.get("/report")
async def get_report():
    await asyncio.sleep(0.2)
    return {"rows": [{"row": row} for row in range(1000)]}


@app.post("/orders")
async def post_order():
    if random.random() < 0.05:
        raise HTTPException(status_code=503, detail="out of stock")
    return {"accepted": True}
