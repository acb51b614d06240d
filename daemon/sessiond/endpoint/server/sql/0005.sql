-- States of stream digests: see checkpoints.py.

CREATE TABLE checkpoints (
    stream bigint NOT NULL,
    generation bigint NOT NULL,
    length bigint NOT NULL,
    chain bytea NOT NULL,
    PRIMARY KEY (stream, generation, length),
    FOREIGN KEY (stream, generation) REFERENCES generations ON DELETE CASCADE
);
