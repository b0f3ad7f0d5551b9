# One image for web nodes, workers, beat, Flower and the admin side; docker-compose.yml says which it is.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY workers workers
COPY examples examples
RUN python -m venv /opt/sessionsweep \
    && /opt/sessionsweep/bin/pip install --no-cache-dir '.[flask,workers,cli,admin,metrics]' 'flower>=2.2,<3' 'gunicorn>=25,<28'

FROM python:3.13-slim
ENV PATH=/opt/sessionsweep/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Named volumes take their owner from these folders, which must be empty: only an empty root gets a marker.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin sessionsweep \
    && install -d -o sessionsweep -g sessionsweep \
        /var/lib/sessionsweep /var/lib/sessionsweep/own /var/lib/sessionsweep/shared /var/lib/flower
COPY --from=build /opt/sessionsweep /opt/sessionsweep
COPY examples/voice_notes /app/voice_notes
COPY deploy/gunicorn.conf.py deploy/web.py /app/
WORKDIR /app
USER sessionsweep
EXPOSE 8000
CMD ["gunicorn", "--config", "/app/gunicorn.conf.py", "web:app"]
