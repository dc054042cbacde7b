"""Who reads, what is sent, and what became of it."""

from django.db import models


class Reader(models.Model):
    """A person who wants the newsletter."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200)
    subscribed = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.email


class Mailing(models.Model):
    """One issue. Subject and text are templates, so only those who may write to everybody may edit them."""

    slug = models.SlugField(unique=True)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    approved = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.slug


class Delivery(models.Model):
    """What became of one mailing for one reader."""

    mailing = models.ForeignKey(Mailing, on_delete=models.CASCADE)
    reader = models.ForeignKey(Reader, on_delete=models.CASCADE)
    status = models.CharField(max_length=20)
    reply = models.TextField(blank=True)

    class Meta:
        """One row for each pair."""

        constraints = (models.UniqueConstraint(fields=["mailing", "reader"], name="one_for_each_reader"),)

    def __str__(self) -> str:
        return f"{self.mailing_id} to {self.reader_id}: {self.status}"
