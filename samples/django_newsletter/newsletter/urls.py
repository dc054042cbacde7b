"""The addresses of the site."""

from django.urls import path

from newsletter.views import mailing_plan

urlpatterns = [path("mailings/<slug:slug>/", mailing_plan, name="plan")]
