"""The app ``music``: songs, playlists, and artists that are followed."""

from __future__ import annotations

from dataclasses import dataclass

from ferrule.worlds.apps.calling import paged, writes
from ferrule.worlds.apps.store import Id, Page, Row, Store, Text

__all__ = ["Music"]


@dataclass(frozen=True)
class Music:
    """Songs that can be liked and put into playlists; artists that can be followed."""

    store: Store

    def search(self, query: Text = "", artist: Text | None = None, genre: Text | None = None, page: Page = 1) -> Row:
        """Find songs by a part of the title, by title.

        Args:
            query: text to look for; empty finds all
            artist: only by this artist
            genre: only of this genre
            page: number of the page
        """
        songs = self.store.rows(
            "SELECT * FROM songs WHERE instr(lower(title), lower(?)) AND (? IS NULL OR artist = ?) AND "
            "(? IS NULL OR genre = ?) ORDER BY title, id",
            query.strip(),
            artist,
            artist,
            genre,
            genre,
        )
        return paged(songs, page)

    def song(self, song_id: Id) -> Row:
        """Show one song.

        Args:
            song_id: id of the song
        """
        return self.store.one("songs", song_id)

    def liked(self, page: Page = 1) -> Row:
        """List the songs that you like, by title.

        Args:
            page: number of the page
        """
        return paged(self.store.rows("SELECT * FROM songs WHERE liked ORDER BY title, id"), page)

    @writes
    def like(self, song_id: Id, liked: bool = True) -> str:
        """Like a song, or like it no longer.

        Args:
            song_id: id of the song
            liked: whether you like it
        """
        self.store.one("songs", song_id)
        self.store.update("songs", song_id, liked=int(liked))
        return "liked" if liked else "no longer liked"

    def playlists(self, page: Page = 1) -> Row:
        """List the playlists with the number of their songs.

        Args:
            page: number of the page
        """
        query = "SELECT *, (SELECT count(*) FROM tracks WHERE playlist_id = playlists.id) AS songs FROM playlists"
        return paged(self.store.rows(f"{query} ORDER BY title, id"), page)

    def playlist(self, playlist_id: Id) -> Row:
        """Show one playlist with its songs.

        Args:
            playlist_id: id of the playlist
        """
        row = self.store.one("playlists", playlist_id)
        songs = self.store.rows(
            "SELECT songs.* FROM tracks JOIN songs ON songs.id = song_id WHERE playlist_id = ? ORDER BY tracks.id",
            playlist_id,
        )
        return {**row, "songs": songs}

    @writes
    def create(self, title: Text) -> Row:
        """Make an empty playlist and return its id.

        Args:
            title: its title
        """
        return {"playlist_id": self.store.insert("playlists", title=title.strip())}

    @writes
    def rename(self, playlist_id: Id, title: Text) -> str:
        """Give a playlist another title.

        Args:
            playlist_id: id of the playlist
            title: its new title
        """
        self.store.one("playlists", playlist_id)
        self.store.update("playlists", playlist_id, title=title.strip())
        return "renamed"

    @writes
    def delete(self, playlist_id: Id) -> str:
        """Delete a playlist; its songs stay.

        Args:
            playlist_id: id of the playlist
        """
        self.store.one("playlists", playlist_id)
        self.store.delete("tracks", playlist_id=playlist_id)
        self.store.delete("playlists", id=playlist_id)
        return "deleted"

    @writes
    def add(self, playlist_id: Id, song_id: Id) -> str:
        """Put a song at the end of a playlist.

        Args:
            playlist_id: id of the playlist
            song_id: id of the song
        """
        self.store.one("playlists", playlist_id)
        self.store.one("songs", song_id)
        if self.store.rows("SELECT id FROM tracks WHERE playlist_id = ? AND song_id = ?", playlist_id, song_id):
            raise ValueError(f"song {song_id} is in playlist {playlist_id} already")
        self.store.insert("tracks", playlist_id=playlist_id, song_id=song_id)
        return "added"

    @writes
    def remove(self, playlist_id: Id, song_id: Id) -> str:
        """Take a song out of a playlist.

        Args:
            playlist_id: id of the playlist
            song_id: id of the song
        """
        if not self.store.delete("tracks", playlist_id=playlist_id, song_id=song_id):
            raise LookupError(f"song {song_id} is not in playlist {playlist_id}")
        return "removed"

    def following(self, page: Page = 1) -> Row:
        """List the artists that you follow.

        Args:
            page: number of the page
        """
        return paged([row["artist"] for row in self.store.rows("SELECT artist FROM following ORDER BY artist")], page)

    @writes
    def follow(self, artist: Text) -> str:
        """Follow an artist.

        Args:
            artist: name as it stands with the songs
        """
        if not self.store.rows("SELECT id FROM songs WHERE artist = ?", artist.strip()):
            raise LookupError(f"no artist {artist[:60]!r}")
        if self.store.rows("SELECT id FROM following WHERE artist = ?", artist.strip()):
            raise ValueError(f"you follow {artist!r} already")
        self.store.insert("following", artist=artist.strip())
        return "followed"

    @writes
    def unfollow(self, artist: Text) -> str:
        """Follow an artist no longer.

        Args:
            artist: name of the artist
        """
        if not self.store.delete("following", artist=artist.strip()):
            raise LookupError(f"you do not follow {artist[:60]!r}")
        return "unfollowed"
